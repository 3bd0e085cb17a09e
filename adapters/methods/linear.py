"""The classifier alone: nothing but the head is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.method import Dims, Identity

FAMILY = "baseline"
PAPER = ""
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """No settings."""


def attach(_vit: nn.Module, _config: Config, _generator: torch.Generator) -> list[str]:
    """Train nothing of the ViT."""
    return []


def count(_config: Config, _dims: Dims) -> int:
    """Count nothing."""
    return 0
