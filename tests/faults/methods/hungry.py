"""LoRA on a device that has room for so many images and no more."""

from dataclasses import dataclass

import torch

from adapters.methods import lora

FAMILY, PAPER, IDENTITY_AT_START, MERGEABLE, SEMANTICS = "test", "", "exact", False, 1
count = lora.count


@dataclass(frozen=True, kw_only=True)
class Config(lora.Config):
    """LoRA's settings."""

    room: int = 1_000_000
    """Images that fit into a training step."""


def attach(vit, config, generator):
    """Raise what torch's allocator raises, from inside the step."""

    def allocate(module, inputs):
        if module.training and len(inputs[0]) > config.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    vit.register_forward_pre_hook(allocate)
    return lora.attach(vit, config, generator)
