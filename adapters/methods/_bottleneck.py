"""What the adapters share: a bottleneck map, how it starts, and where in a block it stands.

    A(z) = s (W_up dropout(ReLU(W_down z + b_down)) + b_up)

    parallel    x'' = x' + m + A(x')     AdaptFormer: beside the MLP branch m, on the raw stream
    pfeiffer    x'' = x' + m + A(m)      after the MLP branch
    houlsby     x' = x + a + A1(a), x'' = x' + m + A2(m)      after both branches

The start `study` is what the code of the OSU study (arXiv:2409.16434) effectively began with: its
model constructor overwrites every Linear. The study's `zero` start is a slip that zeroes W_down and
b_up twice and leaves W_up; here it zeroes W_up and b_up. With all four at zero, only b_up would ever
get a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapters.method import Dims
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._host_block import BranchedBlock, host_block
from adapters.methods._settings import check_dropout, check_positive
from adapters.methods._whole_numbers import check_sizes
from adapters.spec import one_of

Init = Literal["lora_kaiming", "lora_xavier", "xavier", "zero", "study"]
INITS: tuple[Init, ...] = ("lora_kaiming", "lora_xavier", "xavier", "zero", "study")
Placement = Literal["parallel", "pfeiffer", "houlsby"]
PLACEMENTS: tuple[Placement, ...] = ("parallel", "pfeiffer", "houlsby")


@dataclass(frozen=True, kw_only=True)
class Settings(ChosenBlocks):
    """What every adapter lets a suite choose."""

    bottleneck: int
    """Width r of the bottleneck."""
    scale: float | Literal["learned"]
    """The factor s, of the up bias too; `learned` is one trained number per adapter, from 1."""
    dropout: float = 0.1
    """Inside the bottleneck, after the ReLU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(bottleneck=self.bottleneck)
        if isinstance(self.scale, str):
            one_of("scale", self.scale, ("a finite number above 0", "learned"))
        else:
            check_positive(scale=self.scale)
        check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True)
class InitSettings(Settings):
    """The same, for adapters whose start can be chosen."""

    init: Init
    """`lora_*` and `zero` start as the base model; `xavier` and `study` do not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("init", self.init, INITS)


class Bottleneck(nn.Module):
    """W_down (r, d) and W_up (d, r), each with a bias."""

    scale: Tensor | float

    def __init__(
        self, width: int, settings: Settings, init: Init, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.down, self.up = bottleneck_pair(width, settings.bottleneck, init, generator)
        self.dropout = settings.dropout
        if settings.scale == "learned":
            self.scale = nn.Parameter(torch.ones(1))
        else:
            self.scale = settings.scale

    def forward(self, z_BND: Tensor) -> Tensor:
        """Compute A(z)."""
        h_BNR = nn.functional.relu(self.down(z_BND))
        h_BNR = nn.functional.dropout(h_BNR, self.dropout, self.training)
        a_BND: Tensor = self.up(h_BNR) * self.scale
        return a_BND


def bottleneck_pair(
    width: int, bottleneck: int, init: Init, generator: torch.Generator
) -> tuple[nn.Linear, nn.Linear]:
    """Return the down and the up Linear, started as `init` says."""
    # By way of the meta device, since an ordinary Linear would draw from the global generator.
    down = nn.Linear(width, bottleneck, device="meta").to_empty(device="cpu")
    up = nn.Linear(bottleneck, width, device="meta").to_empty(device="cpu")
    for tensor in (down.bias, up.weight, up.bias):
        nn.init.zeros_(tensor)
    if init in ("lora_xavier", "xavier"):
        nn.init.xavier_uniform_(down.weight, generator=generator)
    elif init == "study":
        nn.init.trunc_normal_(down.weight, std=0.02, generator=generator)
        nn.init.trunc_normal_(up.weight, std=0.02, generator=generator)
    else:
        nn.init.uniform_(down.weight, -(width**-0.5), width**-0.5, generator=generator)
    if init == "xavier":
        nn.init.xavier_uniform_(up.weight, generator=generator)
        nn.init.normal_(down.bias, std=1e-6, generator=generator)
        nn.init.normal_(up.bias, std=1e-6, generator=generator)
    if init == "zero":
        nn.init.uniform_(down.bias, -(width**-0.5), width**-0.5, generator=generator)
    return down, up


def attach_bottlenecks(
    vit: nn.Module,
    settings: Settings,
    generator: torch.Generator,
    *,
    init: Init,
    placement: Placement,
    method: str,
) -> list[str]:
    """Put the adapters of one placement into the chosen blocks; return the parameters' names."""
    timm_vit: Any = vit

    def adapter() -> Bottleneck:
        return Bottleneck(timm_vit.embed_dim, settings, init, generator)

    def make(block: nn.Module) -> BranchedBlock:
        return BranchedBlock(
            block,
            source="stream" if placement == "parallel" else "output",
            attn_adapter=adapter() if placement == "houlsby" else None,
            mlp_adapter=adapter(),
        )

    return [
        name
        for index in settings.blocks_of(vit)
        for name in host_block(vit, index, make, method=method)
    ]


def count_bottlenecks(settings: Settings, dims: Dims, *, placement: Placement) -> int:
    """Sum 2 d r + r + d over the adapters of k blocks, and one more each if their scale is learned."""
    r, d = settings.bottleneck, dims.width
    learned = 1 if settings.scale == "learned" else 0
    each = 2 * d * r + r + d + learned
    return len(settings.adapted_blocks(dims.depth)) * each * (2 if placement == "houlsby" else 1)
