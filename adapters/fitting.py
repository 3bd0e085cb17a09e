"""Whether a method can stand on a ViT of which only the sizes are known: tried without numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from adapters import registry
from adapters.anatomy import Anatomy
from adapters.layout import difference, layout_of, put
from adapters.method import Dims


def check(name: str, config: Any, dims: Dims) -> None:
    """Raise ValueError, naming the method, where it cannot stand on a ViT of these sizes.

    What a plain ViT cannot take is refused by the method's `count` alone, which is quicker.
    """
    if dims.anatomy != Anatomy():
        try:
            method: Any = registry.method(name)
            attach_without_numbers(method, config, dims)
        except ValueError as error:
            raise ValueError(named(name, error)) from error


@cache
def attach_without_numbers(method: Any, config: Any, dims: Dims) -> None:
    """Attach to a ViT of these sizes on the meta device; ValueError as `attach`."""
    vit = _skeleton(dims)
    before = layout_of(vit)
    try:
        method.attach(vit, config, torch.Generator())
    finally:
        put(vit, difference(before)[0])


def named(method: str, error: ValueError) -> str:
    """The message of an error of `method`, which it names."""
    return str(error) if method in str(error) else f"{method}: {error}"


@cache
def _skeleton(dims: Dims) -> Any:
    """A ViT of these sizes without numbers; its norms, which `Dims` adds up, are the plain ones."""
    from timm.layers import SwiGLUPacked
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    anatomy, biases, registers = dims.anatomy, dims.linear_biases, max(0, dims.prefix_tokens - 1)
    hidden = dims.mlp_width * (2 if (anatomy.family, anatomy.mlp) == ("vit", "packed") else 1)
    common: dict[str, Any] = {
        "img_size": dims.image_size,
        "patch_size": dims.patch_size,
        "embed_dim": dims.width,
        "depth": dims.depth,
        "num_heads": dims.heads,
        "mlp_ratio": (hidden + 0.5) / dims.width,  # timm rounds down, and so would a float
        "class_token": dims.prefix_tokens > 0,
        "global_pool": "token" if dims.prefix_tokens else "avg",
        "num_classes": 0,
    }
    with torch.device("meta"):
        if anatomy.family == "eva":
            return Eva(
                qkv_bias=anatomy.attention == "beside" or bool({"qkv", "q"} & set(biases)),
                qkv_fused=anatomy.attention != "split",
                attn_type="rope" if {"qkv", "k"} & set(biases) else "eva",
                swiglu_mlp=anatomy.mlp != "plain",
                swiglu_align_to=1 if anatomy.mlp == "gated" else 0,
                num_reg_tokens=registers,
                **common,
            )
        if anatomy.mlp == "packed":
            common["mlp_layer"] = SwiGLUPacked
        return VisionTransformer(qkv_bias="qkv" in biases, reg_tokens=registers, **common)
