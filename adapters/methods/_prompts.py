"""What the prompt methods share: tokens of n trained vectors in front of all others.

Shape suffixes: B batch, N tokens, P prompts, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from adapters.methods._host_block import HostBlock


class PromptedBlock(HostBlock):
    """A block that may put prompts in front of its tokens, and may drop the first of its output."""

    def __init__(
        self, block: nn.Module, *, prompts_PD: Tensor | None, dropped: int, dropout: float
    ) -> None:
        super().__init__(block)
        self.prompts = None if prompts_PD is None else nn.Parameter(prompts_PD)
        self.dropped, self.dropout = dropped, dropout

    def forward(self, x_BND: Tensor, **given: Any) -> Tensor:
        """(B, N, D) -> (B, N with the prompts and without the dropped, D)."""
        if self.prompts is not None:
            # Dropped before the batch is there: one mask for all its images.
            prompts_PD = nn.functional.dropout(self.prompts, self.dropout, self.training)
            prompts_BPD = prompts_PD.to(x_BND.dtype).expand(x_BND.shape[0], -1, -1)
            x_BND = torch.cat((prompts_BPD, x_BND), dim=1)
        return self.feed_forward(self.attention(x_BND, **given))[:, self.dropped :]


def seat_prompts(vit: nn.Module, index: int, count: int) -> None:
    """Let a block's attention take `count` more tokens in front, which no rotary position turns."""
    attn: Any = vit.get_submodule(f"blocks.{index}.attn")
    if hasattr(attn, "num_prefix_tokens"):
        attn.num_prefix_tokens += count


def draw_prompts(vit: nn.Module, count: int, generator: torch.Generator) -> Tensor:
    """Draw (P, D) from U(-v, v), v = sqrt(6 / (3 p^2 + d)) for patches of p x p pixels."""
    timm_vit: Any = vit
    pixels = 3 * math.prod(timm_vit.patch_embed.patch_size)
    bound = (6 / (pixels + timm_vit.embed_dim)) ** 0.5
    drawn = torch.empty(count, timm_vit.embed_dim)
    return drawn.uniform_(-bound, bound, generator=generator)
