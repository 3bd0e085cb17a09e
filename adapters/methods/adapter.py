"""The bottleneck adapter with its place in the block as a setting.

    A(z) = s (W_up dropout(ReLU(W_down z + b_down)) + b_up)

    parallel    x'' = x' + m + A(x')                          as in AdaptFormer
    pfeiffer    x'' = x' + m + A(m)                           after the MLP branch m
    houlsby     x' = x + a + A1(a), x'' = x' + m + A2(m)      after the attention branch a too

The defaults are those of the OSU study (arXiv:2409.16434). `adaptformer`, `pfeiffer`, `houlsby` and
`adapter_zero` are this with a placement fixed and the defaults of their papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from adapters.method import Dims, Identity
from adapters.methods._bottleneck import (
    PLACEMENTS,
    Init,
    InitSettings,
    Placement,
    attach_bottlenecks,
    count_bottlenecks,
)
from adapters.spec import one_of

FAMILY = "bottleneck"
PAPER = "arXiv:1902.00751"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(InitSettings):
    """Settings of the bottleneck adapter."""

    placement: Placement = "parallel"
    """Beside the MLP, after the MLP, or after the attention and after the MLP."""
    bottleneck: int = 64
    scale: float | Literal["learned"] = 0.1
    init: Init = "lora_kaiming"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("placement", self.placement, PLACEMENTS)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the adapters into the chosen blocks."""
    return attach_bottlenecks(
        vit,
        config,
        generator,
        init=config.init,
        placement=config.placement,
        method="adapter",
    )


def count(config: Config, dims: Dims) -> int:
    """Count the adapters of the chosen blocks."""
    return count_bottlenecks(config, dims, placement=config.placement)
