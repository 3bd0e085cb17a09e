"""A tiny ViT that this project pretrained itself, so that a first run needs no download.

The weights lie beside this file in fp16 safetensors, without a head. `_pretrain_tiny.py` made them;
the file's header holds its settings and the versions it ran with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.backbones.contract import BackboneInfo
from adapters.checkpoint import digest
from adapters.method import Dims

WEIGHTS = Path(__file__).parent / "assets" / "vit_tiny_fashion.safetensors"

INFO = BackboneInfo(
    name="vit_tiny_fashion",
    timm_name="VisionTransformer",
    dims=Dims(
        width=160,
        depth=6,
        heads=5,
        mlp_width=640,
        params=1_882_560,
        bias_params=10_880,
        norm_params=4_160,
        block_norm_params=640,
        linear_biases=("qkv", "proj", "fc1", "fc2"),
        image_size=28,
        patch_size=7,
        prefix_tokens=1,
    ),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bicubic",
    weights_digest="418c45faa2826a58e82d3bc221551efd412ea1b96ca76ead70e6cb49e581a8c3",
    description=(
        "Tiny ViT (1.88 M parameters, 28 px, patch 7) that this project pretrained on 58,000 "
        "labelled training images of Fashion-MNIST, coloured at random, for 10 passes; it scores "
        "87.8 % on 2,000 further training images. It shows how methods compare and is not a strong "
        "model: it never saw a natural image. The data set fashion_mnist is drawn from the same "
        "source, so that pair is no transfer. Weights: ours, Apache-2.0. Data: MIT, (c) 2017 "
        "Zalando SE."
    ),
)


def missing() -> str | None:
    """None: the weights are part of the package."""
    if WEIGHTS.is_file():
        return None
    return "pip install --force-reinstall --no-deps peftgrid"


def create() -> Any:
    """Build the timm model with its weights; ValueError where the file is not the declared one."""
    from safetensors.torch import load_file

    stored = load_file(WEIGHTS)
    found = digest(stored)
    if found != INFO.weights_digest:
        raise ValueError(
            f"{WEIGHTS}: tensors with digest {found} given, allowed: {INFO.weights_digest}"
        )
    vit = build(num_classes=0)
    vit.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    return vit.eval()


def build(num_classes: int) -> Any:
    """Build the timm model untrained, drawn from torch's global generator; 0 classes: no head."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=INFO.dims.image_size,
        patch_size=INFO.dims.patch_size,
        embed_dim=INFO.dims.width,
        depth=INFO.dims.depth,
        num_heads=INFO.dims.heads,
        num_classes=num_classes,
    )
