"""FacT-TT: all increments of a ViT as a tensor train, two factors for the ViT and free cores.

    delta[p, q] = s V core[p, q] U   for each d x d tile of qkv, proj, fc1 and fc2 of every block

Jie, Deng 2023, arXiv:2212.03145. Every Linear of every chosen block has a core of its own; U and V are
shared by all, and registered once (the source's state lists them for every block).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapters.inject import replace_linear
from adapters.method import Dims, Identity
from adapters.methods import _fact
from adapters.methods._fact import (
    FactConfig,
    FactLinear,
    Factors,
    check_dims,
    check_vit,
    linear_start,
)

FAMILY = "tensor"
PAPER = _fact.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(FactConfig):
    """Settings of FacT-TT."""


class TrainLinear(FactLinear):
    """A Linear whose core (P R, Q R) is its own."""

    def __init__(
        self,
        _base: nn.Linear,
        *,
        factors: Factors,
        tiles: tuple[int, int],
        config: Config,
        generator: torch.Generator,
    ) -> None:
        super().__init__(factors=factors, config=config)
        p, q = tiles
        self.core = linear_start(p * config.rank, q * config.rank, config, generator)

    def core_matrix(self) -> Tensor:
        """Return the core."""
        return self.core


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Give the ViT its U and V as `fact_tt`, and each Linear of the chosen blocks a core."""
    chosen = config.blocks_of(vit)
    width = check_vit("fact_tt", vit, chosen)
    factors = Factors(width, config, generator).to(next(vit.parameters()).device)
    names = []
    for block in chosen:
        for linear, tiles in _fact.TILES.items():
            make = partial(
                TrainLinear, factors=factors, tiles=tiles, config=config, generator=generator
            )
            names += replace_linear(vit, block, linear, make)
    vit.add_module("fact_tt", factors)
    return ["fact_tt.U", "fact_tt.V", *names]


def count(config: Config, dims: Dims) -> int:
    """Compute 2 d r + 12 k r^2 for k blocks."""
    check_dims("fact_tt", dims)
    k = len(config.adapted_blocks(dims.depth))
    return 2 * dims.width * config.rank + 12 * k * config.rank**2
