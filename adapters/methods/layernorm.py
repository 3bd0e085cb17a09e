"""LayerNorm tuning: train the weights and biases of all LayerNorms and nothing else.

Basu et al. 2023, arXiv:2304.01917. Those of a plain ViT are two in each block and the final one;
CLIP's has one more before the blocks. None is inserted. With `blocks`, only those inside
the chosen blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.inject import is_head
from adapters.method import Dims, Identity
from adapters.methods._chosen_blocks import ChosenBlocks

FAMILY = "selective"
PAPER = "arXiv:2304.01917"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of LayerNorm tuning."""


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Train the LayerNorms."""
    prefixes = config.prefixes(vit)
    return [
        f"{path}.{name}"
        for path, module in vit.named_modules()
        if isinstance(module, nn.LayerNorm) and not is_head(path) and path.startswith(prefixes)
        for name, _ in module.named_parameters()
    ]


def count(config: Config, dims: Dims) -> int:
    """Count all norms: (4 L + 2) d on a plain ViT, 2 d more on CLIP's; k chosen blocks have 4 k d."""
    if config.blocks is None:
        return dims.norm_params
    return len(config.adapted_blocks(dims.depth)) * dims.block_norm_params
