"""TLoRA's LoRA: a low-rank update for each of q, k and v, random at the output side.

    delta_c = A_c B_c^T,   c = q, k, v

From the TLoRA project, which calls it lora and whose names A, B are kept. It differs from the usual
LoRA (`lora`): the output side A starts random, with standard deviation 1/r, and the input side B at
zero; there is no alpha.
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
from adapters.methods._tlora_family import FactoredQkv, attach_to_qkv, zeros

FAMILY = "low-rank"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of TLoRA's LoRA."""

    rank: int = 8
    """Rank r of the update of each of q, k and v."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rank(self.rank)


class TloraQkv(FactoredQkv):
    """A (3, d, R) over outputs and B (3, d, R) over inputs, for each of q, k, v."""

    def __init__(self, base: nn.Linear, *, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        d = base.in_features
        self.A = nn.Parameter(torch.empty(3, d, rank).normal_(std=1 / rank, generator=generator))
        self.B = zeros(3, d, rank)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return B_c^T and A_c."""
        return self.B.mT, self.A


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the updates on the qkv of each chosen block."""
    return attach_to_qkv(
        vit, config.blocks_of(vit), partial(TloraQkv, rank=config.rank, generator=generator)
    )


def count(config: Config, dims: Dims) -> int:
    """Compute 6 d r k for k blocks."""
    return 6 * dims.width * config.rank * len(config.adapted_blocks(dims.depth))
