"""BitFit: train the biases of the ViT and nothing else.

Ben Zaken, Goldberg, Ravfogel 2021, arXiv:2106.10199. Every parameter whose own name is `bias`
counts: those of the patch embedding, the norms and the Linears; none is inserted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.inject import is_head
from adapters.method import Dims, Identity

FAMILY = "selective"
PAPER = "arXiv:2106.10199"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """No settings."""


def attach(vit: nn.Module, _config: Config, _generator: torch.Generator) -> list[str]:
    """Train the biases."""
    return [
        name
        for name, _ in vit.named_parameters()
        if name.rpartition(".")[2] == "bias" and not is_head(name)
    ]


def count(_config: Config, dims: Dims) -> int:
    """Count all biases: 11 d L + 2 d on a plain ViT."""
    return dims.bias_params
