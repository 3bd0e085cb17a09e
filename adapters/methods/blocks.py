"""Selective block tuning: train a few whole blocks, their norms and Linears.

From the OSU study (arXiv:2409.16434), whose code selects by substrings, so that block 1 brings blocks
10 and 11 with it; here names are exact. LayerScale vectors, where a ViT has them, stay frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.anatomy import LINEARS
from adapters.inject import blocks as blocks_of
from adapters.method import Dims, Identity
from adapters.methods._selective import LAST_THREE, count_linears, linear_names
from adapters.methods._whole_numbers import canonical_indices, resolve_indices

FAMILY = "selective"
PAPER = "arXiv:2409.16434"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of selective block tuning."""

    indices: tuple[int, ...] = LAST_THREE
    """Blocks, from 0; negative ones count from the end."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", canonical_indices("indices", self.indices))


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Train the norms and Linears of the chosen blocks."""
    chosen = resolve_indices("blocks", "indices", config.indices, len(blocks_of(vit)))
    norms = [
        f"blocks.{index}.{norm}.{name}"
        for index in chosen
        for norm in ("norm1", "norm2")
        for name, _ in vit.get_submodule(f"blocks.{index}.{norm}").named_parameters()
    ]
    return norms + linear_names(vit, config.indices, tuple(LINEARS), method="blocks")


def count(config: Config, dims: Dims) -> int:
    """Compute 12 d^2 + 13 d for each chosen block, less the biases that its Linears lack."""
    chosen = resolve_indices("blocks", "indices", config.indices, dims.depth)
    linears = count_linears(config.indices, tuple(LINEARS), dims, method="blocks")
    return linears + len(chosen) * 4 * dims.width
