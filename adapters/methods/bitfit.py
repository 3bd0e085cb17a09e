"""BitFit: train the biases of the ViT and nothing else.

Ben Zaken, Goldberg, Ravfogel 2021, arXiv:2106.10199. Every parameter whose own name is `bias`
counts: those of the patch embedding, the norms and the Linears; none is inserted. With
`blocks`, only those inside the chosen blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.anatomy import BIASES
from adapters.inject import is_head, linear_sizes
from adapters.method import Dims, Identity
from adapters.methods._chosen_blocks import ChosenBlocks

FAMILY = "selective"
PAPER = "arXiv:2106.10199"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of BitFit."""


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Train the biases."""
    prefixes = config.prefixes(vit)
    return [
        name
        for name, _ in vit.named_parameters()
        if name.rpartition(".")[2] in BIASES and not is_head(name) and name.startswith(prefixes)
    ]


def count(config: Config, dims: Dims) -> int:
    """Count all biases, 11 d L + 2 d on a plain ViT; those of k chosen blocks are 11 d k."""
    if config.blocks is None:
        return dims.bias_params
    of_linears = sum(linear_sizes(dims)[linear][1] for linear in dims.linear_biases)
    if dims.anatomy.attention == "beside":
        of_linears += 2 * dims.width
    return len(config.adapted_blocks(dims.depth)) * (of_linears + dims.block_norm_params // 2)
