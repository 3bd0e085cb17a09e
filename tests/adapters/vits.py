"""Small ViTs whose every tensor is away from its usual start, for tests of adapters."""

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

FITTING = {
    **{name: {"indices": (-1,)} for name in ("attention", "blocks", "mlp")},
    "miss": {"rank": 8},
    "adamss": {"total_rank": 16, "subspace_rank": 3},
}
"""Settings in place of defaults: those ask for a larger ViT, or leave others without effect."""


def small_vit(**changes):
    """16 patches of 7 px, width 48, 2 blocks, 3 heads, 5 classes; the same numbers every time."""
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 48, "depth": 2, "num_heads": 3}
    return _unusual(lambda: VisionTransformer(num_classes=5, **sizes | changes))


EVAS = {
    "eva_split": "eva02_base_patch14_224",  # with a gated MLP that has a norm inside
    "eva_beside": "eva02_tiny_patch14_224",  # with a packed MLP
    "eva_fused": "vit_small_patch16_dinov3",  # with LayerScale and registers
    "eva_mixed": "vit_small_patch16_rope_mixed_224",  # each block has its own rotation
}
"""A timm model for each way in which the family builds its attention."""


def small_eva(name, **changes):
    """One of `EVAS` in the sizes of `small_vit`; the same numbers every time."""
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 48, "depth": 2, "num_heads": 3}
    return _unusual(lambda: timm.create_model(EVAS[name], num_classes=5, **sizes | changes))


def _unusual(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = make()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return vit.eval()


def images(count=3):
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(2))


def perturb(adapted, seed=3):
    """Move everything that trains a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.trainable_parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
