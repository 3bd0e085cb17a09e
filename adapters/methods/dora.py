"""DoRA: LoRA's update changes the direction of each weight row, a trained magnitude its length.

    y = g (W + s B A) x + b,   g = m / ||W + s B A||   (norm of each row, over the inputs)

Liu et al. 2024, arXiv:2402.09353. m starts at the row norms of W and B at zero, so g starts at
exactly 1 and the adapted model as the base. As in the paper (section 4.3) no gradient flows through
the norm. Different from the usual code: the norm comes from the factors,

    ||W_o + s B_o A||^2 = ||W_o||^2 + 2 s B_o A W_o^T + s^2 B_o A A^T B_o^T,

so nothing of the weight's size is built, and weight decay spares m, which it would pull to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from adapters.inject import adapted_linears
from adapters.method import Dims, HfPeft, Identity
from adapters.methods import lora
from adapters.qkv import (
    add_delta,
    low_rank,
    output_blocks,
    row_blocks,
    spread,
    target_shapes,
)

FAMILY = "low-rank"
PAPER = "arXiv:2402.09353"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(lora.Config):
    """Settings of DoRA: those of LoRA."""


class DoraLinear(lora.LoraLinear):
    """LoRA's A and B, and m (P, o) of one Linear."""

    no_decay: ClassVar[tuple[str, ...]] = ("m",)
    reads_weight = True
    square_Po: Tensor

    def __init__(
        self,
        base: nn.Linear,
        *,
        parts: tuple[str, ...],
        config: Config,
        generator: torch.Generator,
    ) -> None:
        super().__init__(base, parts=parts, config=config, generator=generator)
        square_Po = row_blocks(base.weight.detach(), parts).square().sum(-1)
        # Follows from the frozen weight, so it moves with the model but is not saved with it.
        self.register_buffer("square_Po", square_Po, persistent=False)
        self.m = nn.Parameter(square_Po.sqrt())

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute g (W + s B A) x + b as what it adds to W x + b."""
        y_BNO = base(x_BNI)
        bare_BNO = y_BNO if base.bias is None else y_BNO - base.bias
        bare_BNPo = output_blocks(bare_BNO, self.parts)
        g_Po = self._gain(base)
        dropped_BNI = nn.functional.dropout(x_BNI, self.dropout, self.training)
        update_BNPo = low_rank(dropped_BNI, self.down(), self.up())
        return add_delta(y_BNO, (g_Po - 1) * bare_BNPo + g_Po * update_BNPo, self.parts)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return the weight with directions and magnitudes, and b."""
        gain_O1 = spread(self._gain(base), self.parts, fill=1.0).unsqueeze(1)
        update = spread(self.up() @ self.down(), self.parts)
        return gain_O1 * (base.weight + update), base.bias

    def _gain(self, base: nn.Linear) -> Tensor:
        """Return g (P, o); the norm is a constant to the gradient."""
        with torch.no_grad():
            down_PRI, up_PoR = self.down(), self.up()
            w_PoI = row_blocks(base.weight, self.parts)
            cross_Po = (up_PoR * (w_PoI @ down_PRI.mT)).sum(-1)
            own_Po = ((up_PoR @ (down_PRI @ down_PRI.mT)) * up_PoR).sum(-1)
            norm_Po = (self.square_Po + 2 * cross_Po + own_Po).clamp_min(0).sqrt()
        return self.m / norm_Po


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put an update and magnitudes on each target of the chosen blocks."""
    return lora.attach_updates(vit, config, generator, DoraLinear)


def count(config: Config, dims: Dims) -> int:
    """Add the rows of every target to LoRA's count."""
    rows = sum(p * o for p, o, _ in target_shapes(config.targets, dims))
    return lora.count(config, dims) + len(config.adapted_blocks(dims.depth)) * rows


def hf_peft(vit: nn.Module, config: Config) -> HfPeft:
    """LoRA's form and a magnitude per row; rows that are not adapted keep the length they have."""
    settings, tensors = lora.hf_peft(vit, config)
    for path, base, adapter in adapted_linears(vit, DoraLinear):
        adapted_O = spread(torch.ones_like(adapter.m), adapter.parts).bool()
        m_O = spread(adapter.m, adapter.parts)
        tensors[f"model.{path}.lora_magnitude_vector"] = torch.where(
            adapted_O, m_O, base.weight.norm(dim=1)
        )
    return settings | {"use_dora": True}, tensors
