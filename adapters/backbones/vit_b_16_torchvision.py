"""torchvision's ViT-B/16, weights `IMAGENET1K_V1`, under timm's tensor names: what adapters_ViTs adapts.

Trained on ImageNet-1k from scratch by torchvision's own recipe, so it is none of timm's ViT-B/16
checkpoints. The file is torchvision's own, in torch's hub folder; its SHA-256 begins with what stands
in its name, which is checked at every reading, and only tensors are loaded.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.backbones.contract import BackboneInfo
from adapters.method import Dims

FILE = "vit_b_16-c867db91.pth"

INFO = BackboneInfo(
    name="vit_b_16_torchvision",
    timm_name="vit_base_patch16_224",
    dims=Dims(
        width=768,
        depth=12,
        heads=12,
        mlp_width=3072,
        params=85_798_656,
        bias_params=102_912,
        norm_params=38_400,
        block_norm_params=3_072,
        linear_biases=("qkv", "proj", "fc1", "fc2"),
        image_size=224,
        patch_size=16,
        prefix_tokens=1,
    ),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bilinear",
    weights_digest=None,
    description="torchvision ViT_B_16_Weights.IMAGENET1K_V1, licence: BSD-3 (torchvision)",
)

_NAMES = (
    ("conv_proj.", "patch_embed.proj."),
    ("class_token", "cls_token"),
    ("encoder.pos_embedding", "pos_embed"),
    ("encoder.ln.", "norm."),
    ("self_attention.in_proj_", "attn.qkv."),
    ("self_attention.out_proj.", "attn.proj."),
    ("ln_1.", "norm1."),
    ("ln_2.", "norm2."),
    # Numbers in a model of today, words in the published file.
    ("mlp.0.", "mlp.fc1."),
    ("mlp.3.", "mlp.fc2."),
    ("mlp.linear_1.", "mlp.fc1."),
    ("mlp.linear_2.", "mlp.fc2."),
)


def missing() -> str | None:
    """The command that has torchvision download the file, where it is absent."""
    if _file().is_file():
        return None
    return (
        'python -c "from torchvision.models import ViT_B_16_Weights as W; '
        'W.IMAGENET1K_V1.get_state_dict(check_hash=True)"'
    )


def create() -> Any:
    """The timm model with its weights, float32, in eval mode, without a head.

    Raises:
        ValueError: The file is absent or is not what its name says.

    """
    import timm

    path = _file()
    if not path.is_file():
        raise ValueError(f"{INFO.name}: weights are absent; get them with: {missing()}")
    data = path.read_bytes()
    found, wanted = hashlib.sha256(data).hexdigest(), FILE.partition("-")[2].partition(".")[0]
    if not found.startswith(wanted):
        raise ValueError(f"{path}: SHA-256 {found}, allowed: one that begins with {wanted}")
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    vit = timm.create_model(INFO.timm_name, num_classes=0)
    vit.load_state_dict(to_timm(tensors), strict=True)
    return vit.eval()


def to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of torchvision's `VisionTransformer` under timm's names, without the head."""
    return {
        _renamed(name): tensor for name, tensor in tensors.items() if not name.startswith("heads.")
    }


def _renamed(name: str) -> str:
    name = re.sub(r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1.", name)
    for theirs, timms in _NAMES:
        name = name.replace(theirs, timms)
    return name


def _file() -> Path:
    """Where torch's hub keeps the file; torch itself is not asked, since plans do without it."""
    home = os.environ.get("TORCH_HOME")
    if home is None:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")  # noqa: PTH118
    return Path(home).expanduser() / "hub" / "checkpoints" / FILE
