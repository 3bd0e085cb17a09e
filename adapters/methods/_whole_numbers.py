"""Settings that are whole numbers: sizes, and the indices of blocks."""

from __future__ import annotations


def check_sizes(**values: int) -> None:
    """Raise ValueError naming the first keyword whose value is no integer of at least 1."""
    for name, value in values.items():
        if type(value) is not int or value < 1:  # bool is an int in Python
            raise ValueError(f"{name}: {value!r} given, allowed: an integer of at least 1")


def canonical_indices(name: str, indices: tuple[int, ...]) -> tuple[int, ...]:
    """Sort indices as in [0, 1, -2, -1]: what order a suite lists them in changes no run.

    Raises ValueError unless they are a non-empty tuple of different integers.
    """
    if not isinstance(indices, tuple) or any(type(index) is not int for index in indices):
        raise ValueError(f"{name}: {indices!r} given, allowed: a list of integers")
    if not indices or len(set(indices)) < len(indices):
        raise ValueError(f"{name}: {list(indices)} given, allowed: one or more, each once")
    return tuple(sorted(indices, key=lambda index: (index < 0, index)))


def resolve_indices(
    method: str, name: str, indices: tuple[int, ...] | None, depth: int
) -> list[int]:
    """Count negative indices from the end of `depth` blocks; None stands for all blocks.

    Raises ValueError where there is no such block, or one is named twice.
    """
    if indices is None:
        return list(range(depth))
    for index in indices:
        if not -depth <= index < depth:
            raise ValueError(
                f"{method}: {name}: {index} given for a ViT of {depth} blocks, "
                f"allowed: {-depth} to {depth - 1}"
            )
    resolved = [index % depth for index in indices]
    if len(set(resolved)) < len(resolved):
        raise ValueError(
            f"{method}: {name}: {list(indices)} given for a ViT of {depth} blocks, "
            "allowed: each block once"
        )
    return sorted(resolved)
