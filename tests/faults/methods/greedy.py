"""LoRA that takes the host's memory once, in the second forward pass of the first attempt."""

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
    """A file that exists once it has taken the memory."""
    gibibytes: int = 1


def attach(vit, config, generator):
    """Take the memory in small pieces, and hold it until somebody ends the process."""
    passes = []

    def take(*_):
        passes.append(1)
        if len(passes) != 2 or Path(config.marker).exists():
            return
        Path(config.marker).touch()
        held = []
        for _ in range(4 * config.gibibytes):
            held.append(b"x" * 2**28)
            time.sleep(0.1)
        time.sleep(3600)

    vit.register_forward_pre_hook(take)
    return lora.attach(vit, config, generator)
