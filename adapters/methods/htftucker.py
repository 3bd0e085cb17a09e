"""HTFTucker: q, k, v and the heads of a block in one Tucker decomposition of four modes.

    delta_c[j d_h + t, i] = sum_{g,m,a,b} G[g, m, a, b] P[c, g] M[j, m] R[i, a] K[t, b],   c = q, k, v

for row t of head j, d_h = d / heads: `httucker` with factors that q, k and v share. From the TLoRA
project, whose names G, P, M, R, K are kept: here the "row" factor R is the input side and the
"column" factor K the position inside a head. The core starts at zero, the factors start orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapters.method import Dims, Identity
from adapters.methods import _tlora_family
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import canonical_rank, ranks
from adapters.methods._tlora_family import (
    FactoredQkv,
    attach_to_qkv,
    head_width,
    heads_of,
    orthogonal,
    zeros,
)

FAMILY = "tensor"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1
MODES = ("qkv", "heads", "input", "head output")


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of HTFTucker."""

    rank: int | tuple[int, int, int, int] = 8
    """One rank for all modes, or those of q/k/v, heads, input and output inside a head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rank", canonical_rank(self.rank, MODES))


class HTFTuckerQkv(FactoredQkv):
    """G (g, m, a, b), P (3, g) over q, k, v, M (heads, m), R (d, a) over inputs, K (d_h, b)."""

    def __init__(
        self, base: nn.Linear, *, heads: int, rank: tuple[int, ...], generator: torch.Generator
    ) -> None:
        super().__init__()
        d = base.in_features
        g, m, a, b = rank
        self.G = zeros(g, m, a, b)
        self.P = orthogonal(3, g, generator)
        self.M = orthogonal(heads, m, generator)
        self.R = orthogonal(d, a, generator)
        self.K = orthogonal(d // heads, b, generator)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return R^T, shared, and, for head j, K (sum_{g,m} P[c, g] M[j, m] G[g, m])^T."""
        core_cmab = torch.einsum("cg,gmab->cmab", self.P, self.G)
        core_cjab = torch.einsum("jm,cmab->cjab", self.M, core_cmab)
        up_cjta = torch.einsum("tb,cjab->cjta", self.K, core_cjab)
        return self.R.T.unsqueeze(0), up_cjta.flatten(1, 2)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put one decomposition on the qkv of each chosen block."""
    rank, heads = ranks(config.rank, len(MODES)), heads_of("htftucker", vit)
    return attach_to_qkv(
        vit,
        config.blocks_of(vit),
        partial(HTFTuckerQkv, heads=heads, rank=rank, generator=generator),
    )


def count(config: Config, dims: Dims) -> int:
    """Compute k (r_g r_m r_a r_b + 3 r_g + heads r_m + d r_a + d_h r_b) for k blocks."""
    g, m, a, b = ranks(config.rank, len(MODES))
    d_h = head_width("htftucker", dims.width, dims.heads)
    k = len(config.adapted_blocks(dims.depth))
    return k * (g * m * a * b + 3 * g + dims.heads * m + dims.width * a + d_h * b)
