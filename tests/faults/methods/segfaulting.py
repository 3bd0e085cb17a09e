"""LoRA whose process crashes in the second training step, every time."""

import ctypes
from dataclasses import dataclass

from adapters.methods import lora

FAMILY, PAPER, IDENTITY_AT_START, MERGEABLE, SEMANTICS = "test", "", "exact", False, 1
count = lora.count


@dataclass(frozen=True, kw_only=True)
class Config(lora.Config):
    """LoRA's settings."""


def attach(vit, config, generator):
    """Read from address 0 at the second forward pass."""
    passes = []

    def crash(*_):
        passes.append(1)
        if len(passes) == 2:
            ctypes.string_at(0)

    vit.register_forward_pre_hook(crash)
    return lora.attach(vit, config, generator)
