"""RepAdapter: a linear bottleneck before the attention and before the MLP, to be merged into them.

    a = Attn(R(LN x)),   m = MLP(R'(LN x')),   R(z) = z + s (W_up dropout(W_down z + b_down) + b_up)

Luo et al. 2023, arXiv:2302.08106. W_up is block-diagonal with g groups: the k-th part of the width
sees the k-th part of the bottleneck. What follows is linear, qkv and fc1, so R sits on those two:

    W R(z) + b = (W + W D) z + b + W c,   D = s W_up W_down,   c = s (W_up b_down + b_up)

Where several Linears stand there instead (q, k and v, or an MLP's gate), all see the same R, with a
dropout mask each.
W_up and the biases start at zero, so the adapted model starts as the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapters.inject import replace_together
from adapters.method import Dims, Identity, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import check_dropout, check_positive
from adapters.methods._whole_numbers import check_sizes

FAMILY = "bottleneck"
PAPER = "arXiv:2302.08106"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of RepAdapter."""

    bottleneck: int = 8
    """Width r of the bottleneck."""
    groups: int = 2
    """Blocks g of W_up; it divides `bottleneck` and the ViT's width."""
    scale: float = 1.0
    """The factor s, of the up bias too."""
    dropout: float = 0.1
    """Inside the bottleneck."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(bottleneck=self.bottleneck, groups=self.groups)
        check_positive(scale=self.scale)
        check_dropout(self.dropout)
        if self.bottleneck % self.groups:
            raise ValueError(
                f"groups: {self.groups} given with bottleneck: {self.bottleneck}, "
                "allowed: a divisor of it"
            )


class RepLinear(LinearAdapter):
    """W_down (R, I) and the blocks of W_up one below the other (I, R / g), each with a bias."""

    def __init__(
        self,
        base: nn.Linear,
        *,
        config: Config,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        i, r = base.in_features, config.bottleneck
        self.groups, self.scale, self.dropout = config.groups, config.scale, config.dropout
        self.down = nn.Parameter(torch.empty(r, i))
        self.down_bias = nn.Parameter(torch.zeros(r))
        self.up = nn.Parameter(torch.zeros(i, r // config.groups))
        self.up_bias = nn.Parameter(torch.zeros(i))
        nn.init.xavier_uniform_(self.down, generator=generator)

    def _up(self) -> Tensor:
        """Return s W_up (I, R), zero outside its blocks."""
        up_IR: Tensor = torch.block_diag(*self.up.chunk(self.groups))  # type: ignore[no-untyped-call]
        return self.scale * up_IR

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W R(x) + b."""
        h_BNR = nn.functional.linear(x_BNI, self.down, self.down_bias)
        h_BNR = nn.functional.dropout(h_BNR, self.dropout, self.training)
        change_BNI = nn.functional.linear(h_BNR, self._up(), self.scale * self.up_bias)
        out: Tensor = base(x_BNI + change_BNI)
        return out

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + W D and b + W c."""
        up_IR = self._up()
        c_I = up_IR @ self.down_bias + self.scale * self.up_bias
        bias_O = base.weight @ c_I
        if base.bias is not None:
            bias_O = base.bias + bias_O
        return base.weight + (base.weight @ up_IR) @ self.down, bias_O


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put one before the qkv and one before the fc1 of each chosen block."""
    timm_vit: Any = vit
    _check_groups(config, timm_vit.embed_dim)
    make = partial(RepLinear, config=config, generator=generator)
    return [
        name
        for block in config.blocks_of(vit)
        for target in ("qkv", "fc1")
        for name in replace_together(vit, block, target, make)
    ]


def count(config: Config, dims: Dims) -> int:
    """Compute 2 k (d r + r + d r / g + d) for k blocks."""
    _check_groups(config, dims.width)
    r, d, k = config.bottleneck, dims.width, len(config.adapted_blocks(dims.depth))
    return 2 * k * (d * r + r + d * r // config.groups + d)


def _check_groups(config: Config, width: int) -> None:
    if width % config.groups:
        raise ValueError(
            f"repadapter: groups: {config.groups} given for a ViT of width {width}, "
            "allowed: a divisor of it"
        )
