"""A ViT of one block and width 8."""

import torch
from timm.models.vision_transformer import VisionTransformer

from adapters.backbones.contract import BackboneInfo
from adapters.checkpoint import digest
from adapters.method import Dims


def _build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(
            img_size=8, patch_size=8, embed_dim=8, depth=1, num_heads=1, num_classes=0
        )


def _info():
    vit = _build()
    named = dict(vit.named_parameters())

    def total(test):
        return sum(tensor.numel() for name, tensor in named.items() if test(name))

    return BackboneInfo(
        name="speck",
        timm_name="VisionTransformer",
        dims=Dims(
            width=8,
            depth=1,
            heads=1,
            mlp_width=32,
            params=total(lambda name: True),
            bias_params=total(lambda name: name.endswith("bias")),
            norm_params=total(lambda name: "norm" in name),
            block_norm_params=total(lambda name: "norm" in name and "blocks" in name),
            linear_biases=("qkv", "proj", "fc1", "fc2"),
            image_size=8,
            patch_size=8,
            prefix_tokens=1,
        ),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        weights_digest=digest(vit.state_dict()),
        description="For the benchmark of the machinery.",
    )


INFO = _info()


def missing():
    """None: it is drawn."""
    return


def create():
    """The timm model."""
    return _build().eval()
