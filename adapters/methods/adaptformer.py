"""AdaptFormer: a bottleneck beside the MLP, on the stream before its norm.

    x'' = x' + MLP(LN x') + s (W_up dropout(ReLU(W_down x' + b_down)) + b_up)

Chen et al. 2022, arXiv:2205.13535. W_up starts at zero, so the adapted model starts as the base.
The scale multiplies the up bias too; LayerScale, where a ViT has it, the MLP alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from adapters.method import Dims, Identity
from adapters.methods._bottleneck import (
    Init,
    InitSettings,
    attach_bottlenecks,
    count_bottlenecks,
)

FAMILY = "bottleneck"
PAPER = "arXiv:2205.13535"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(InitSettings):
    """Settings of AdaptFormer."""

    bottleneck: int = 64
    scale: float | Literal["learned"] = 0.1
    init: Init = "lora_kaiming"


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the adapters into the chosen blocks."""
    return attach_bottlenecks(
        vit, config, generator, init=config.init, placement="parallel", method="adaptformer"
    )


def count(config: Config, dims: Dims) -> int:
    """Count the adapters of the chosen blocks."""
    return count_bottlenecks(config, dims, placement="parallel")
