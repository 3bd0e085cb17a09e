"""Full fine-tuning: every parameter of the ViT is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.inject import is_head
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
    """Train everything but the head, which is the harness's."""
    return [name for name, _ in vit.named_parameters() if not is_head(name)]


def count(_config: Config, dims: Dims) -> int:
    """Count all of the backbone."""
    return dims.params
