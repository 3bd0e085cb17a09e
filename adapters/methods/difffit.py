"""DiffFit: a trained scale on the output of every branch, and all biases and LayerNorms.

    x' = x + gamma1 * a,   x'' = x' + gamma2 * m

Xie et al. 2023, arXiv:2304.06648. The scales start at one. They sit on the output of `proj` and of
`fc2`, which is the same as after LayerScale, since both multiply feature by feature.
With `blocks`, only what lies inside the chosen blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.method import Dims, Identity
from adapters.methods import bitfit, layernorm
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods.ia3 import OutputScale
from adapters.qkv import replace_targets

FAMILY = "scaling"
PAPER = "arXiv:2304.06648"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of DiffFit."""


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put the scales on the chosen blocks; train them, the biases and the LayerNorms."""
    scales = replace_targets(vit, ("proj", "fc2"), OutputScale, config.blocks_of(vit))
    biases = bitfit.attach(vit, bitfit.Config(blocks=config.blocks), generator)
    norms = layernorm.attach(vit, layernorm.Config(blocks=config.blocks), generator)
    return list(dict.fromkeys((*scales, *biases, *norms)))


def count(config: Config, dims: Dims) -> int:
    """Add 2 d k scales and the LayerNorms' weights to the biases: 15 d L + 3 d on a plain ViT."""
    scales = 2 * len(config.adapted_blocks(dims.depth)) * dims.width
    biases = bitfit.count(bitfit.Config(blocks=config.blocks), dims)
    return scales + biases + layernorm.count(layernorm.Config(blocks=config.blocks), dims) // 2
