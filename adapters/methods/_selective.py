"""What selective tuning shares: the parameters of named modules in chosen blocks, by exact names."""

from __future__ import annotations

from torch import nn

from adapters.inject import blocks, parameter_count, parameter_names
from adapters.method import Dims
from adapters.methods._whole_numbers import resolve_indices

LAST_THREE = (-3, -2, -1)
"""What the OSU study tunes: blocks 9, 10 and 11 of twelve."""


def linear_names(
    vit: nn.Module, indices: tuple[int, ...], targets: tuple[str, ...], *, method: str
) -> list[str]:
    """Name the weights and biases of `targets` (qkv, proj, fc1, fc2) in the blocks `indices`."""
    return [
        name
        for index in resolve_indices(method, "indices", indices, len(blocks(vit)))
        for target in targets
        for name in parameter_names(vit, index, target)
    ]


def count_linears(
    indices: tuple[int, ...], targets: tuple[str, ...], dims: Dims, *, method: str
) -> int:
    """Count what `linear_names` names: in * out + out for each Linear, or in * out without a bias."""
    chosen = resolve_indices(method, "indices", indices, dims.depth)
    return len(chosen) * sum(parameter_count(dims, target) for target in targets)
