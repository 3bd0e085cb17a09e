"""ConvPass: a convolutional bottleneck beside the attention and beside the MLP of every block.

    x' = x + Attn(n) + C(n),   n = LN x;   x'' = x' + MLP(n') + C'(n'),   n' = LN x'
    C(z) = s (W_up dropout(Q(conv(Q(W_down z + b_down)))) + b_up),   Q(u) = u sigmoid(1.702 u)

Jie, Deng 2022, arXiv:2207.07039. The 3 x 3 convolution runs over the grid of patches; the class
token goes through it as an image of one pixel. W_up starts at zero, so the adapted model starts as
the base. It needs a square grid and one prefix token. LayerScale, where a ViT has it, acts on the
frozen branch alone.

Shape suffixes: B batch, N tokens, D width, R bottleneck, G the side of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapters.method import Dims, Identity
from adapters.methods._bottleneck import INITS, Init, bottleneck_pair
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._host_block import BranchedBlock, host_block
from adapters.methods._settings import check_dropout, check_positive
from adapters.methods._whole_numbers import check_sizes
from adapters.spec import one_of

FAMILY = "bottleneck"
PAPER = "arXiv:2207.07039"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of ConvPass."""

    bottleneck: int = 8
    """Channels r of the convolution."""
    scale: float = 10.0
    """The factor s, of the up bias too."""
    dropout: float = 0.1
    """After the second activation."""
    init: Init = "lora_xavier"
    """Of W_down, W_up and their biases; `lora_*` and `zero` start as the base model."""
    kernel_init: Literal["identity", "xavier"] = "identity"
    """`identity` makes the convolution pass every channel on unchanged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(bottleneck=self.bottleneck)
        check_positive(scale=self.scale)
        check_dropout(self.dropout)
        one_of("init", self.init, INITS)
        one_of("kernel_init", self.kernel_init, ("identity", "xavier"))


class ConvPass(nn.Module):
    """W_down (R, D), the kernel (R, R, 3, 3) and W_up (D, R), each with a bias."""

    def __init__(self, width: int, grid: int, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        r = config.bottleneck
        self.grid, self.scale, self.dropout = grid, config.scale, config.dropout
        self.down, self.up = bottleneck_pair(width, r, config.init, generator)
        self.conv = nn.Conv2d(r, r, 3, padding=1, device="meta").to_empty(device="cpu")
        nn.init.zeros_(self.conv.get_parameter("bias"))
        if config.kernel_init == "identity":
            nn.init.dirac_(self.conv.weight)
        else:
            nn.init.xavier_uniform_(self.conv.weight, generator=generator)

    def forward(self, z_BND: Tensor) -> Tensor:
        """Compute C(z)."""
        u_BNR = _quick_gelu(self.down(z_BND))
        class_BR, patches_BRN = u_BNR[:, 0], u_BNR[:, 1:].transpose(1, 2)
        grid = (self.grid, self.grid)
        patches_BRGG = self.conv(patches_BRN.reshape(*patches_BRN.shape[:2], *grid))
        # Padded with zeros, an image of one pixel meets the centre of the kernel only.
        centre_RR = self.conv.weight[:, :, 1, 1]
        class_BR = nn.functional.linear(class_BR, centre_RR, self.conv.bias)
        patches_BNR = patches_BRGG.flatten(2).transpose(1, 2)
        v_BNR = _quick_gelu(torch.cat((class_BR.unsqueeze(1), patches_BNR), dim=1))
        v_BNR = nn.functional.dropout(v_BNR, self.dropout, self.training)
        c_BND: Tensor = self.up(v_BNR) * self.scale
        return c_BND


def _quick_gelu(u: Tensor) -> Tensor:
    return u * torch.sigmoid(1.702 * u)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put two of them into each chosen block."""
    timm_vit: Any = vit
    _check_prefix(timm_vit.num_prefix_tokens)
    height, width = timm_vit.patch_embed.grid_size
    if height != width:
        raise ValueError(f"convpass: a grid of {height} x {width} given, allowed: square grids")

    def make(block: nn.Module) -> BranchedBlock:
        branches = [ConvPass(timm_vit.embed_dim, height, config, generator) for _ in range(2)]
        return BranchedBlock(
            block, source="normed", attn_adapter=branches[0], mlp_adapter=branches[1]
        )

    return [
        name
        for index in config.blocks_of(vit)
        for name in host_block(vit, index, make, method="convpass")
    ]


def count(config: Config, dims: Dims) -> int:
    """Compute 2 k (2 d r + 9 r^2 + 2 r + d) for k blocks."""
    _check_prefix(dims.prefix_tokens)
    r, d, k = config.bottleneck, dims.width, len(config.adapted_blocks(dims.depth))
    return 2 * k * (2 * d * r + 9 * r**2 + 2 * r + d)


def _check_prefix(tokens: int) -> None:
    if tokens != 1:
        raise ValueError(f"convpass: a ViT of {tokens} prefix tokens given, allowed: 1")
