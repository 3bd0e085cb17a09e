"""What selective tuning shares: the parameters of named modules in chosen blocks, by exact names."""

from __future__ import annotations

from torch import nn

from adapters.inject import LINEARS, blocks, linear_of, linear_sizes
from adapters.method import Dims
from adapters.methods._whole_numbers import resolve_indices

LAST_THREE = (-3, -2, -1)
"""What the OSU study tunes: blocks 9, 10 and 11 of twelve."""


def linear_names(
    vit: nn.Module, indices: tuple[int, ...], linears: tuple[str, ...], *, method: str
) -> list[str]:
    """Name the weight and bias of `linears` (keys of `LINEARS`) in the blocks `indices`."""
    return [
        f"blocks.{index}.{LINEARS[linear]}.{name}"
        for index in resolve_indices(method, "indices", indices, len(blocks(vit)))
        for linear in linears
        for name, _ in linear_of(vit, index, linear).named_parameters()
    ]


def count_linears(
    indices: tuple[int, ...], linears: tuple[str, ...], dims: Dims, *, method: str
) -> int:
    """Count what `linear_names` names: in * out + out for each, or in * out without a bias."""
    sizes = linear_sizes(dims)
    chosen = resolve_indices(method, "indices", indices, dims.depth)
    return len(chosen) * sum(
        (sizes[name][0] + (name in dims.linear_biases)) * sizes[name][1] for name in linears
    )
