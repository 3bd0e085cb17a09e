"""The Pfeiffer adapter with W_up and b_up at zero and W_down and b_down as torch starts a Linear.

    x'' = x' + m + s (W_up dropout(ReLU(W_down m + b_down)) + b_up),   m = MLP(LN x')

The baseline adapter of VPT (Jia et al. 2022, arXiv:2203.12119) as the OSU study (arXiv:2409.16434)
lists it. The study's code zeroes W_down and b_up instead, a slip; VPT's own zeroes all four, of which
b_up alone can then learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from adapters.method import Dims, Identity
from adapters.methods._bottleneck import Settings, attach_bottlenecks, count_bottlenecks

FAMILY = "bottleneck"
PAPER = "arXiv:2203.12119"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Settings of the adapter that starts at zero."""

    bottleneck: int = 8
    scale: float | Literal["learned"] = 1.0


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the adapters into the chosen blocks."""
    return attach_bottlenecks(
        vit, config, generator, init="zero", placement="pfeiffer", method="adapter_zero"
    )


def count(config: Config, dims: Dims) -> int:
    """Count the adapters of the chosen blocks."""
    return count_bottlenecks(config, dims, placement="pfeiffer")
