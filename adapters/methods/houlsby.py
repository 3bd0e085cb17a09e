"""The Houlsby adapter: a bottleneck with a residual after the attention and after the MLP branch.

    x' = x + a + A1(a),   x'' = x' + m + A2(m),   a = Attn(LN x),   m = MLP(LN x')

Houlsby et al. 2019, arXiv:1902.00751, as the OSU study (arXiv:2409.16434) puts it on a ViT: both maps
start at random, so the adapted model does not start as the base. LayerScale, where a ViT has it, is
part of a and m and acts once.
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
PAPER = "arXiv:1902.00751"
IDENTITY_AT_START: Identity = "no"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(InitSettings):
    """Settings of the Houlsby adapter."""

    bottleneck: int = 8
    scale: float | Literal["learned"] = 1.0
    init: Init = "xavier"


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the adapters into the chosen blocks."""
    return attach_bottlenecks(
        vit, config, generator, init=config.init, placement="houlsby", method="houlsby"
    )


def count(config: Config, dims: Dims) -> int:
    """Count the adapters of the chosen blocks."""
    return count_bottlenecks(config, dims, placement="houlsby")
