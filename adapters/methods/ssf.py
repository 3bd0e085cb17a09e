"""SSF: a trained scale and shift after the patch embedding and every norm and Linear.

    y <- gamma * y + beta

Lian et al. 2022, arXiv:2210.08823. gamma ~ N(1, 0.02) and beta ~ N(0, 0.02), so the adapted model
does not start as the base. `fc1` is scaled before the activation; the norm before the blocks that
CLIP's ViTs have is left alone. With `blocks`, only what lies inside the chosen blocks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapters.inject import anatomy_of, replace_linear
from adapters.method import AdaptedModule, Dims, Identity, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.qkv import places, target_shapes

FAMILY = "scaling"
PAPER = "arXiv:2210.08823"
IDENTITY_AT_START: Identity = "no"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of SSF."""


class ScaledLinear(LinearAdapter):
    """The scale and shift (O) of a Linear's outputs."""

    no_decay = ("scale",)  # decay would pull the scales to 0 and not to 1

    def __init__(self, base: nn.Linear, *, generator: torch.Generator) -> None:
        super().__init__()
        self.scale, self.shift = _draw(base.out_features, generator)

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute gamma * (W x + b) + beta."""
        return _affine(base(x_BNI), self.scale, self.shift)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return diag(gamma) W and gamma * b + beta."""
        return self.scale.unsqueeze(1) * base.weight, _shifted(base.bias, self.scale, self.shift)


class ScaledNorm(AdaptedModule):
    """A LayerNorm, and the scale and shift of its outputs."""

    no_decay = ("scale",)
    base: nn.LayerNorm

    def __init__(self, base: nn.LayerNorm, *, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale, self.shift = _draw(base.normalized_shape[-1], generator)

    def forward(self, x: Tensor) -> Tensor:
        """Compute gamma * LN(x) + beta."""
        return _affine(self.base(x), self.scale, self.shift)

    def merged(self) -> nn.Module:
        """Return the LayerNorm with weight gamma * w and bias gamma * b + beta."""
        bias = _shifted(self.base.bias, self.scale, self.shift)
        return _with(self.base, self.scale * self.base.weight, bias)


class ScaledConv(AdaptedModule):
    """The convolution of the patch embedding, and the scale and shift of its channels."""

    no_decay = ("scale",)
    base: nn.Conv2d

    def __init__(self, base: nn.Conv2d, *, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale, self.shift = _draw(base.out_channels, generator)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Compute gamma * conv(x) + beta."""
        y_BDGG = self.base(x_B3HW)
        return _affine(y_BDGG, self.scale.view(-1, 1, 1), self.shift.view(-1, 1, 1))

    def merged(self) -> nn.Module:
        """Return the convolution with weight diag(gamma) W and bias gamma * b + beta."""
        weight = self.scale.view(-1, 1, 1, 1) * self.base.weight
        return _with(self.base, weight, _shifted(self.base.bias, self.scale, self.shift))


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put a scale and shift on the patch embedding, in the blocks, and on the final norm."""
    timm_vit: Any = vit
    whole = config.blocks is None
    names = []
    if whole:
        if not isinstance(timm_vit.patch_embed.norm, nn.Identity):
            raise ValueError("ssf: a patch embedding with a norm given, allowed: one without")
        scaled_conv = partial(ScaledConv, generator=generator)
        names += _wrap(vit, "patch_embed.proj", nn.Conv2d, scaled_conv)
    scaled_norm = partial(ScaledNorm, generator=generator)
    for block in config.blocks_of(vit):
        for norm in ("norm1", "norm2"):
            names += _wrap(vit, f"blocks.{block}.{norm}", nn.LayerNorm, scaled_norm)
        for linear, _, _ in places("all", anatomy_of(vit, block)):
            make = partial(ScaledLinear, generator=generator)
            names += replace_linear(vit, block, linear, make)
    if whole:
        # With average pooling timm norms the pooled features instead of the tokens.
        final = "fc_norm" if isinstance(timm_vit.norm, nn.Identity) else "norm"
        names += _wrap(vit, final, nn.LayerNorm, scaled_norm)
    return names


def _wrap(
    vit: nn.Module, path: str, kind: type[nn.Module], make: Callable[[Any], AdaptedModule]
) -> list[str]:
    """Put `make(module)` where the ViT has the module; return the names of its own parameters."""
    base: Any = vit.get_submodule(path)
    if not isinstance(base, kind) or not isinstance(base.weight, Tensor):
        raise ValueError(
            f"ssf: {path} is a {type(base).__name__}, allowed: {kind.__name__} with a weight"
        )
    vit.set_submodule(path, make(base).to(base.weight.device).train(base.training))
    return [f"{path}.scale", f"{path}.shift"]


def _draw(size: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    scale = torch.empty(size).normal_(mean=1.0, std=0.02, generator=generator)
    shift = torch.empty(size).normal_(std=0.02, generator=generator)
    return nn.Parameter(scale), nn.Parameter(shift)


def _affine(y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift.to(y.dtype), y, scale.to(y.dtype))


def _shifted(bias: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
    """Return gamma * b + beta."""
    return shift if bias is None else scale * bias + shift


def _with(base: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """Return a copy of `base` with another weight and bias."""
    module = copy.deepcopy(base)
    module.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    module.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return module


def count(config: Config, dims: Dims) -> int:
    """Compute 22 d L + 4 d: two numbers per output of the patch embedding, the norms and Linears.

    Where k blocks are chosen, 22 d k.
    """
    in_block = 2 * dims.width + sum(outputs for _, outputs, _ in target_shapes("all", dims))
    blocks = len(config.adapted_blocks(dims.depth)) * in_block
    around = 2 * dims.width if config.blocks is None else 0
    return 2 * (blocks + around)
