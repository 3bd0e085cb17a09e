"""VPT-Shallow: prompt tokens that enter before the first block and travel through all of them.

    [_, x_L] = Block_L-1(... Block_0([P; x_0]))

Jia et al. 2022, arXiv:2203.12119. The prompts stand in front of the class token, have no position
embedding, and are dropped before the final norm, so pooling sees the ViT's own tokens. The OSU study
(arXiv:2409.16434) drops them after the first block already: `through: first`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn

from adapters.inject import blocks
from adapters.method import Dims, Identity
from adapters.methods._host_block import host_block
from adapters.methods._prompts import PromptedBlock, draw_prompts, seat_prompts
from adapters.methods._settings import check_dropout
from adapters.methods._whole_numbers import check_sizes
from adapters.spec import one_of

FAMILY = "prompt"
PAPER = "arXiv:2203.12119"
IDENTITY_AT_START: Identity = "no"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of VPT-Shallow."""

    prompts: int = 10
    """Tokens n."""
    dropout: float = 0.1
    """On the prompts, with one mask for the whole batch."""
    through: Literal["all", "first"] = "all"
    """The blocks that see the prompts: all, or the first one alone as in the OSU study."""

    def __post_init__(self) -> None:
        check_sizes(prompts=self.prompts)
        check_dropout(self.dropout)
        one_of("through", self.through, ("all", "first"))


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Let the first block insert the prompts, and the last one that sees them drop them."""
    last = 0 if config.through == "first" else len(blocks(vit)) - 1
    for index in range(last + 1):
        seat_prompts(vit, index, config.prompts)
    names = []
    for index in dict.fromkeys((0, last)):
        make = partial(
            PromptedBlock,
            prompts_PD=draw_prompts(vit, config.prompts, generator) if index == 0 else None,
            dropped=config.prompts if index == last else 0,
            dropout=config.dropout,
        )
        names += host_block(vit, index, make, method="vpt_shallow")
    return names


def count(config: Config, dims: Dims) -> int:
    """Compute n d."""
    return config.prompts * dims.width
