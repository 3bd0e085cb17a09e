"""The setting `blocks`: which blocks of the ViT a method adapts."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from adapters.inject import blocks
from adapters.methods._whole_numbers import canonical_indices, resolve_indices


@dataclass(frozen=True, kw_only=True)
class ChosenBlocks:
    """What the settings of a method inherit that can adapt some of the blocks only.

    What such a method puts or trains outside the blocks it leaves alone where blocks are chosen.
    """

    blocks: tuple[int, ...] | None = field(default=None, metadata={"neutral": None})
    """Blocks to adapt, from 0, negative from the end; None stands for all of them."""

    def __post_init__(self) -> None:
        if self.blocks is not None:
            object.__setattr__(self, "blocks", canonical_indices("blocks", self.blocks))

    def adapted_blocks(self, depth: int) -> list[int]:
        """Return the indices of the blocks to adapt of `depth`, first to last.

        Raises ValueError where there is no such block, or one is named twice.
        """
        # A method is called as its file is, and its Config lives there.
        method = type(self).__module__.rpartition(".")[2]
        return resolve_indices(method, "blocks", self.blocks, depth)

    def blocks_of(self, vit: nn.Module) -> list[int]:
        """Return the same for a ViT."""
        return self.adapted_blocks(len(blocks(vit)))

    def prefixes(self, vit: nn.Module) -> tuple[str, ...]:
        """How names begin of what may train: anyhow, unless blocks are chosen."""
        if self.blocks is None:
            return ("",)
        return tuple(f"blocks.{index}." for index in self.blocks_of(vit))
