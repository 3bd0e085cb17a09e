"""The Pfeiffer adapter: a bottleneck with a residual after the MLP branch.

    x'' = x' + m + s (W_up dropout(ReLU(W_down m + b_down)) + b_up),   m = MLP(LN x')

Pfeiffer et al. 2020, arXiv:2005.00247, as the OSU study (arXiv:2409.16434) puts it on a ViT. W_up
starts at zero, so the adapted model starts as the base; `init: xavier` is the study's random start.
LayerScale, where a ViT has it, is part of m and acts once.
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
PAPER = "arXiv:2005.00247"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(InitSettings):
    """Settings of the Pfeiffer adapter."""

    bottleneck: int = 8
    scale: float | Literal["learned"] = 1.0
    init: Init = "lora_xavier"


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the adapters into the chosen blocks."""
    return attach_bottlenecks(
        vit, config, generator, init=config.init, placement="pfeiffer", method="pfeiffer"
    )


def count(config: Config, dims: Dims) -> int:
    """Count the adapters of the chosen blocks."""
    return count_bottlenecks(config, dims, placement="pfeiffer")
