"""VPT-Deep: every chosen block gets prompt tokens of its own, which are dropped after it.

    [_, x_i+1] = Block_i([P_i; x_i])

Jia et al. 2022, arXiv:2203.12119. The prompts stand in front of the class token (the paper puts them
behind it, which is the same to a ViT) and have no position embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from adapters.method import Dims, Identity
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._host_block import host_block
from adapters.methods._prompts import PromptedBlock, draw_prompts, seat_prompts
from adapters.methods._settings import check_dropout
from adapters.methods._whole_numbers import check_sizes

FAMILY = "prompt"
PAPER = "arXiv:2203.12119"
IDENTITY_AT_START: Identity = "no"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of VPT-Deep."""

    prompts: int = 10
    """Tokens n for each block."""
    dropout: float = 0.1
    """On the prompts, with one mask for the whole batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(prompts=self.prompts)
        check_dropout(self.dropout)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Give each chosen block its prompts."""
    names = []
    for index in config.blocks_of(vit):
        make = partial(
            PromptedBlock,
            prompts_PD=draw_prompts(vit, config.prompts, generator),
            dropped=config.prompts,
            dropout=config.dropout,
        )
        names += host_block(vit, index, make, method="vpt_deep")
        seat_prompts(vit, index, config.prompts)
    return names


def count(config: Config, dims: Dims) -> int:
    """Compute k n d for k blocks."""
    return len(config.adapted_blocks(dims.depth)) * config.prompts * dims.width
