"""Full fine-tuning of the fused qkv: its weight and bias are trained in every block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.inject import LINEARS, blocks, linear_of
from adapters.method import Dims, Identity

FAMILY = "baseline"
PAPER = ""
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """No settings."""


def attach(vit: nn.Module, _config: Config, _generator: torch.Generator) -> list[str]:
    """Train the qkv Linear of every block; the output projection stays frozen."""
    return [
        f"blocks.{block}.{LINEARS['qkv']}.{name}"
        for block in range(len(blocks(vit)))
        for name, _ in linear_of(vit, block, "qkv").named_parameters()
    ]


def count(_config: Config, dims: Dims) -> int:
    """Compute L (3 d^2 + 3 d)."""
    return dims.depth * 3 * dims.width * (dims.width + 1)
