"""Tucker2: the updates of q, k and v of a block with shared factors and a core slice each.

    delta_c = U G[c] V^T,   c = q, k, v

From the TLoRA project, whose names G, U, V are kept. Its tables do not list this method: what they
call Tucker is `tucker3`. The core G starts at zero, the factors start orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapters.method import Dims, Identity
from adapters.methods import _tlora_family
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import check_rank
from adapters.methods._tlora_family import FactoredQkv, attach_to_qkv, orthogonal, zeros

FAMILY = "tensor"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of Tucker2."""

    rank: int = 8
    """Columns r of U and of V, and both sides of each slice of the core."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rank(self.rank)


class Tucker2Qkv(FactoredQkv):
    """G (3, R, R) over q, k, v, U (d, R) over outputs, V (d, R) over inputs."""

    def __init__(self, base: nn.Linear, *, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        d = base.in_features
        self.G = zeros(3, rank, rank)
        self.U = orthogonal(d, rank, generator)
        self.V = orthogonal(d, rank, generator)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return V^T, shared, and U G[c]."""
        return self.V.T.unsqueeze(0), self.U @ self.G


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put one decomposition on the qkv of each chosen block."""
    return attach_to_qkv(
        vit, config.blocks_of(vit), partial(Tucker2Qkv, rank=config.rank, generator=generator)
    )


def count(config: Config, dims: Dims) -> int:
    """Compute k (3 r^2 + 2 d r) for k blocks."""
    k = len(config.adapted_blocks(dims.depth))
    return k * config.rank * (3 * config.rank + 2 * dims.width)
