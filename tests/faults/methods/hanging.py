"""LoRA that blocks once for ever, in the second training step of the first attempt."""

import time
from dataclasses import dataclass
from pathlib import Path

from adapters.methods import lora

FAMILY, PAPER, IDENTITY_AT_START, MERGEABLE, SEMANTICS = "test", "", "exact", False, 1
count = lora.count


@dataclass(frozen=True, kw_only=True)
class Config(lora.Config):
    """LoRA's settings."""

    marker: str = ""
    """A file that exists once it has hung."""


def attach(vit, config, generator):
    """Hang at the second forward pass unless the marker is there."""
    passes = []

    def hang(*_):
        passes.append(1)
        if len(passes) == 2 and not Path(config.marker).exists():
            Path(config.marker).touch()
            time.sleep(3600)

    vit.register_forward_pre_hook(hang)
    return lora.attach(vit, config, generator)
