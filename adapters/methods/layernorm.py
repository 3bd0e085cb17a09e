"""LayerNorm tuning: train the weights and biases of all LayerNorms and nothing else.

Basu et al. 2023, arXiv:2304.01917. Those of a plain ViT are two in each block and the final one;
CLIP's has one more before the blocks. None is inserted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.inject import is_head
from adapters.method import Dims, Identity

FAMILY = "selective"
PAPER = "arXiv:2304.01917"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """No settings."""


def attach(vit: nn.Module, _config: Config, _generator: torch.Generator) -> list[str]:
    """Train the LayerNorms."""
    return [
        f"{path}.{name}"
        for path, module in vit.named_modules()
        if isinstance(module, nn.LayerNorm) and not is_head(path)
        for name, _ in module.named_parameters()
    ]


def count(_config: Config, dims: Dims) -> int:
    """Count all norms: (4 L + 2) d on a plain ViT, 2 d more on CLIP's."""
    return dims.norm_params
