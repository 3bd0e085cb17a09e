"""CP: the updates of q, k and v of a block as one canonical polyadic decomposition.

    delta_c[o, i] = sum_s A[c, s] B[o, s] C[i, s],   c = q, k, v

From the TLoRA project, whose names A, B, C are kept. C starts at zero.
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
from adapters.methods._tlora_family import FactoredQkv, attach_to_qkv, normal, zeros

FAMILY = "tensor"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of CP."""

    rank: int = 8
    """Terms r of the sum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rank(self.rank)


class CpQkv(FactoredQkv):
    """A (3, R) over q, k, v, B (d, R) over outputs, C (d, R) over inputs."""

    def __init__(self, base: nn.Linear, *, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        d = base.in_features
        self.A = normal(3, rank, rank**-0.5, generator)
        self.B = normal(d, rank, d**-0.5, generator)
        self.C = zeros(d, rank)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return C^T, shared, and B with its columns scaled by A[c]."""
        return self.C.T.unsqueeze(0), self.A.unsqueeze(1) * self.B


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put one decomposition on the qkv of each chosen block."""
    return attach_to_qkv(
        vit, config.blocks_of(vit), partial(CpQkv, rank=config.rank, generator=generator)
    )


def count(config: Config, dims: Dims) -> int:
    """Compute k r (2 d + 3) for k blocks."""
    k = len(config.adapted_blocks(dims.depth))
    return k * config.rank * (2 * dims.width + 3)
