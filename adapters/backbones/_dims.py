"""Reading the sizes of a ViT off the model itself."""

from __future__ import annotations

from typing import Any

from torch import nn

from adapters.anatomy import BIASES, Anatomy, anatomy_of_block, path_of
from adapters.inject import blocks, linear_of
from adapters.method import Dims


def dims_of(vit: Any) -> Dims:
    """The sizes of a timm ViT, whatever device it is on; its head is not counted.

    Raises:
        ValueError: The model is no ViT all of whose blocks have the Linears of one `Anatomy`, in
            the same sizes.

    """
    layers: list[Any] = blocks(vit)
    anatomy = anatomy_of_block(layers[0])
    if anatomy.family == "eva":
        _check_eva(layers[0])
    width: int = vit.embed_dim
    fc2 = _linears(layers[0], anatomy).get("fc2", (0, 0))
    plain = {
        name: (outputs, inputs) for name, (inputs, outputs) in anatomy.sizes(width, fc2[1]).items()
    }
    for index, block in enumerate(layers):
        found = _linears(block, anatomy)
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
        mlp_width=fc2[1],
        params=sum(size for _, size in backbone),
        bias_params=sum(size for name, size in backbone if name.rpartition(".")[2] in BIASES),
        norm_params=_norm_params(vit),
        block_norm_params=_norm_params(layers[0]),
        linear_biases=tuple(
            name for name in anatomy.linears if linear_of(vit, 0, name).bias is not None
        ),
        image_size=height,
        patch_size=vit.patch_embed.patch_size[0],
        prefix_tokens=vit.num_prefix_tokens,
        anatomy=anatomy,
    )


def _check_eva(block: nn.Module) -> None:
    """Raise ValueError unless a block with rotary attention is timm's pre-norm one."""
    from timm.models.eva import EvaBlock

    norm = getattr(block, "norm1", None)
    if type(block) is not EvaBlock or not isinstance(norm, nn.LayerNorm):
        raise ValueError(
            f"a {type(block).__name__} with {type(norm).__name__} given, allowed: plain ViTs only "
            "(timm's Block, or its EvaBlock with LayerNorm)"
        )


def _norm_params(module: nn.Module) -> int:
    """Elements of all LayerNorms in a module, the head's excepted."""
    return sum(
        p.numel()
        for path, inner in module.named_modules()
        if isinstance(inner, nn.LayerNorm) and not path.startswith("head")
        for p in inner.parameters()
    )


def _linears(block: nn.Module, anatomy: Anatomy) -> dict[str, tuple[int, int]]:
    """The (out, in) sizes of those of its Linears that a block has."""
    modules = dict(block.named_modules())
    found = {name: modules.get(path_of(name)) for name in anatomy.linears}
    return {
        name: (module.out_features, module.in_features)
        for name, module in found.items()
        if isinstance(module, nn.Linear)
    }
