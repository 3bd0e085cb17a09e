"""HTTucker: a Tucker decomposition over heads for each of q, k and v of a block.

    delta_c[j d_h + t, i] = sum_{m,a,b} G_c[m, a, b] M_c[j, m] R_c[i, a] K_c[t, b],   c = q, k, v

for row t of head j, d_h = d / heads. From the TLoRA project, whose names G, M, R, K are kept: here
the "row" factor R is the input side and the "column" factor K the position inside a head (in
`tucker3` R is the output side). The project's README gives each head a core and factors of its own;
its code and its counts do not: a head has only its row of M_c. The cores start at zero, the factors
start orthogonal.
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
    orthogonal_each,
    zeros,
)

FAMILY = "tensor"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1
MODES = ("heads", "input", "head output")


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of HTTucker."""

    rank: int | tuple[int, int, int] = 8
    """One rank for all modes, or those of heads, input and output inside a head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rank", canonical_rank(self.rank, MODES))


class HTTuckerQkv(FactoredQkv):
    """For each of q, k, v: G (m, a, b), M (heads, m), R (d, a) over inputs, K (d_h, b)."""

    def __init__(
        self, base: nn.Linear, *, heads: int, rank: tuple[int, ...], generator: torch.Generator
    ) -> None:
        super().__init__()
        d = base.in_features
        m, a, b = rank
        self.G = zeros(3, m, a, b)
        self.M = orthogonal_each(heads, m, generator)
        self.R = orthogonal_each(d, a, generator)
        self.K = orthogonal_each(d // heads, b, generator)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return R_c^T and, for head j, K_c (sum_m M_c[j, m] G_c[m])^T."""
        core_cjab = torch.einsum("cjm,cmab->cjab", self.M, self.G)
        up_cjta = torch.einsum("ctb,cjab->cjta", self.K, core_cjab)
        return self.R.mT, up_cjta.flatten(1, 2)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put three decompositions on the qkv of each chosen block."""
    rank, heads = ranks(config.rank, len(MODES)), heads_of("httucker", vit)
    return attach_to_qkv(
        vit,
        config.blocks_of(vit),
        partial(HTTuckerQkv, heads=heads, rank=rank, generator=generator),
    )


def count(config: Config, dims: Dims) -> int:
    """Compute 3 k (r_m r_a r_b + heads r_m + d r_a + d_h r_b) for k blocks."""
    m, a, b = ranks(config.rank, len(MODES))
    d_h = head_width("httucker", dims.width, dims.heads)
    k = len(config.adapted_blocks(dims.depth))
    return 3 * k * (m * a * b + dims.heads * m + dims.width * a + d_h * b)
