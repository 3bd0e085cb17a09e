"""Reading the sizes of a ViT off the model itself."""

from __future__ import annotations

from typing import Any

from torch import nn

from adapters.inject import LINEARS, blocks, linear_of
from adapters.method import Dims


def dims_of(vit: Any) -> Dims:
    """The sizes of a timm ViT, whatever device it is on; its head is not counted.

    Raises:
        ValueError: The model is no plain ViT, whose every block has a fused `attn.qkv` and an `mlp`
            of two Linears.

    """
    layers: list[Any] = blocks(vit)
    linears = [_linears(block) for block in layers]
    width: int = vit.embed_dim
    mlp_width = linears[0].get("fc1", (0, 0))[0]
    plain = {
        "qkv": (3 * width, width),
        "proj": (width, width),
        "fc1": (mlp_width, width),
        "fc2": (width, mlp_width),
    }
    for index, found in enumerate(linears):
        if found != plain:
            raise ValueError(
                f"{type(vit).__name__}: blocks.{index} has the Linears (out, in) {found}, "
                f"allowed: plain ViTs only, with {plain}"
            )
    backbone = [(n, p.numel()) for n, p in vit.named_parameters() if not n.startswith("head.")]
    height, width_px = vit.patch_embed.img_size
    if height != width_px:
        raise ValueError(
            f"{type(vit).__name__}: {height} x {width_px} pixels given, allowed: square images"
        )
    return Dims(
        width=width,
        depth=len(layers),
        heads=layers[0].attn.num_heads,
        mlp_width=mlp_width,
        params=sum(size for _, size in backbone),
        bias_params=sum(size for name, size in backbone if name.rpartition(".")[2] == "bias"),
        norm_params=_norm_params(vit),
        block_norm_params=_norm_params(layers[0]),
        linear_biases=tuple(name for name in LINEARS if linear_of(vit, 0, name).bias is not None),
        image_size=height,
        patch_size=vit.patch_embed.patch_size[0],
        prefix_tokens=vit.num_prefix_tokens,
    )


def _norm_params(module: nn.Module) -> int:
    """Elements of all LayerNorms in a module, the head's excepted."""
    return sum(
        p.numel()
        for path, inner in module.named_modules()
        if isinstance(inner, nn.LayerNorm) and not path.startswith("head")
        for p in inner.parameters()
    )


def _linears(block: nn.Module) -> dict[str, tuple[int, int]]:
    """The (out, in) sizes of those Linears that a block of a plain ViT has."""
    modules = dict(block.named_modules())
    found = {name: modules.get(path) for name, path in LINEARS.items()}
    return {
        name: (module.out_features, module.in_features)
        for name, module in found.items()
        if isinstance(module, nn.Linear)
    }
