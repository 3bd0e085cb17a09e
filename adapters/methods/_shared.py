"""Trained tensors that all blocks of one ViT use, contracted once in a forward pass for all blocks.

Only a pass through `vit.blocks` as a whole shares a contraction. Whatever calls a block by itself
(gradient checkpointing, feature extraction, merging) contracts for that block alone, so nothing
contracted outlives its pass or ties checkpointed segments together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


class SharedTensors(nn.Module):
    """Owns the tensors; the ViT has it as a child, so that its state has each of them once."""

    def __init__(self) -> None:
        super().__init__()
        self._in_pass = False
        self._contracted: Sequence[Any] | None = None

    def contract(self, blocks: slice) -> Sequence[Any]:
        """Return what each of `blocks` needs, first to last: they count those that are adapted."""
        raise NotImplementedError

    def of_block(self, block: int) -> Any:
        """Return what `contract` gives for one of the adapted blocks."""
        if not self._in_pass:
            (own,) = self.contract(slice(block, block + 1))
            return own
        if self._contracted is None:
            self._contracted = self.contract(slice(None))
        return self._contracted[block]

    def begin_pass(self, *_: Any) -> None:
        """Before `vit.blocks`: let the first block that asks contract for all."""
        self._in_pass = True

    def end_pass(self, *_: Any) -> None:
        """After `vit.blocks`, whether it returned or raised: forget what was contracted."""
        self._in_pass, self._contracted = False, None


def give(vit: nn.Module, name: str, shared: SharedTensors) -> list[str]:
    """Make `shared` the ViT's child `name`; return the names of its parameters in the ViT."""
    vit.add_module(name, shared)
    layers = vit.get_submodule("blocks")
    layers.register_forward_pre_hook(shared.begin_pass)
    layers.register_forward_hook(shared.end_pass, always_call=True)
    return [f"{name}.{own}" for own, _ in shared.named_parameters()]
