"""Full fine-tuning of the qkv: its weight and bias are trained in every block, or a few."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from adapters.inject import parameter_count, parameter_names
from adapters.method import Dims, Identity
from adapters.methods._chosen_blocks import ChosenBlocks

FAMILY = "baseline"
PAPER = ""
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of the full qkv."""


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Train the qkv Linear of each chosen block; the output projection stays frozen."""
    return [name for block in config.blocks_of(vit) for name in parameter_names(vit, block, "qkv")]


def count(config: Config, dims: Dims) -> int:
    """Compute k (3 d^2 + 3 d) for k blocks, or 3 k d^2 where the qkv has no bias."""
    return len(config.adapted_blocks(dims.depth)) * parameter_count(dims, "qkv")
