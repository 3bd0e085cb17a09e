"""Selective attention tuning: train the Linears of the attention in a few blocks.

From the OSU study (arXiv:2409.16434), whose code selects by substrings, so that block 1 brings blocks
10 and 11 with it; here names are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from adapters.method import Dims, Identity
from adapters.methods._selective import LAST_THREE, count_linears, linear_names
from adapters.methods._whole_numbers import canonical_indices
from adapters.spec import one_of

FAMILY = "selective"
PAPER = "arXiv:2409.16434"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1
PARTS = {"qkv": ("qkv",), "proj": ("proj",), "full": ("qkv", "proj")}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of selective attention tuning."""

    indices: tuple[int, ...] = LAST_THREE
    """Blocks, from 0; negative ones count from the end."""
    part: Literal["qkv", "proj", "full"] = "qkv"
    """The Linears that train; `full` is both."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", canonical_indices("indices", self.indices))
        one_of("part", self.part, PARTS)


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Train the chosen Linears."""
    return linear_names(vit, config.indices, PARTS[config.part], method="attention")


def count(config: Config, dims: Dims) -> int:
    """Count the weights and biases of the chosen Linears."""
    return count_linears(config.indices, PARTS[config.part], dims, method="attention")
