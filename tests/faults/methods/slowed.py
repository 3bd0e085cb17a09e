"""LoRA that sleeps in every forward pass, so that a test has time to interrupt it."""

import time
from dataclasses import dataclass

from adapters.methods import lora

FAMILY, PAPER, IDENTITY_AT_START, MERGEABLE, SEMANTICS = "test", "", "exact", False, 1
count = lora.count


@dataclass(frozen=True, kw_only=True)
class Config(lora.Config):
    """LoRA's settings."""

    seconds: float = 0.2
    """Slept in every forward pass."""


def attach(vit, config, generator):
    """Sleep before every forward pass."""
    vit.register_forward_pre_hook(lambda *_: time.sleep(config.seconds))
    return lora.attach(vit, config, generator)
