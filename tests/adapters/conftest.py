"""Small ViTs, with a method put on them, for the tests of methods whose blocks share tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import adapters
from adapters.adapted import Adapted


@pytest.fixture
def small_vit() -> Callable[..., VisionTransformer]:
    """A ViT of three blocks, the same each time: `small_vit(depth=2)`."""

    def make(**settings: Any) -> VisionTransformer:
        torch.manual_seed(1)
        sizes = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 3, "num_heads": 3}
        return VisionTransformer(num_classes=5, **sizes | settings).eval()

    return make


@pytest.fixture
def images() -> Tensor:
    """Two images for `small_vit`."""
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def perturbed(small_vit: Callable[..., VisionTransformer]) -> Callable[..., Adapted]:
    """A small ViT with a method on it, away from its start: `perturbed("fact_tk", rank=2)`."""

    def make(name: str, vit: VisionTransformer | None = None, **settings: Any) -> Adapted:
        adapted = adapters.attach(vit or small_vit(), name, **settings)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in adapted.adapter_parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
        adapted.vit.eval()
        return adapted

    return make
