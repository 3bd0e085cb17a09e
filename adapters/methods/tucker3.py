"""Tucker3: the updates of q, k and v of a block as one Tucker decomposition in three modes.

    delta_c[o, i] = sum_{m,a,b} G[m, a, b] M[c, m] R[o, a] K[i, b],   c = q, k, v

From the TLoRA project, whose names G, M, R, K are kept: here the "row" factor R is the output side
and K the input side. Its tables call this method Tucker. The core G starts at zero, the factors
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
from adapters.methods._tlora_family import FactoredQkv, attach_to_qkv, orthogonal, zeros

FAMILY = "tensor"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1
MODES = ("qkv", "output", "input")


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of Tucker3."""

    rank: int | tuple[int, int, int] = 8
    """One rank for all modes, or those of q/k/v, output and input; it may exceed a mode's size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rank", canonical_rank(self.rank, MODES))


class Tucker3Qkv(FactoredQkv):
    """G (m, a, b), M (3, m) over q, k, v, R (d, a) over outputs, K (d, b) over inputs."""

    def __init__(
        self, base: nn.Linear, *, rank: tuple[int, ...], generator: torch.Generator
    ) -> None:
        super().__init__()
        d = base.in_features
        m, a, b = rank
        self.G = zeros(m, a, b)
        self.M = orthogonal(3, m, generator)
        self.R = orthogonal(d, a, generator)
        self.K = orthogonal(d, b, generator)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return K^T, shared, and R (sum_m M[c, m] G[m])."""
        core_cab = torch.einsum("cm,mab->cab", self.M, self.G)
        return self.K.T.unsqueeze(0), self.R @ core_cab


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put one decomposition on the qkv of each chosen block."""
    rank = ranks(config.rank, len(MODES))
    return attach_to_qkv(
        vit, config.blocks_of(vit), partial(Tucker3Qkv, rank=rank, generator=generator)
    )


def count(config: Config, dims: Dims) -> int:
    """Compute k (r_m r_a r_b + 3 r_m + d r_a + d r_b) for k blocks."""
    m, a, b = ranks(config.rank, len(MODES))
    k = len(config.adapted_blocks(dims.depth))
    return k * (m * a * b + 3 * m + dims.width * (a + b))
