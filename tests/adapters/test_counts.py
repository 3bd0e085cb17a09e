"""Trainable parameters against published and measured tables, by formula and on ViT-B itself.

Those of the tensor methods and of the TLoRA project are in `test_tensor_counts.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

import adapters
from adapters import registry
from adapters.backbones._dims import dims_of
from adapters.method import Dims


def plain_vit(width: int, heads: int, params: int) -> Dims:
    return Dims(
        width=width,
        depth=12,
        heads=heads,
        mlp_width=4 * width,
        params=params,
        bias_params=11 * width * 12 + 2 * width,
        norm_params=(4 * 12 + 2) * width,
        block_norm_params=4 * width,
        linear_biases=("qkv", "proj", "fc1", "fc2"),
        image_size=224,
        patch_size=16,
        prefix_tokens=1,
    )


VITS = {
    "Ti": plain_vit(192, 3, 5_524_416),
    "S": plain_vit(384, 6, 21_665_664),
    "B": plain_vit(768, 12, 85_798_656),
}
QKV, Q_K_V, Q_V = ("qkv",), ("q", "k", "v"), ("q", "v")
# Method, settings, ViT; the counts without a head for ranks 1, 2, 4, 8, 16.
BY_RANK: list[tuple[str, dict[str, Any], str, tuple[int, ...]]] = [
    ("lora", {"targets": Q_K_V}, "Ti", (13824, 27648, 55296, 110592, 221184)),
    ("lora", {"targets": Q_K_V}, "S", (27648, 55296, 110592, 221184, 442368)),
    ("lora", {"targets": Q_K_V}, "B", (55296, 110592, 221184, 442368, 884736)),
    ("lora", {"targets": QKV}, "Ti", (9216, 18432, 36864, 73728, 147456)),
    ("lora", {"targets": QKV}, "B", (36864, 73728, 147456, 294912, 589824)),
    ("lora", {"targets": Q_V}, "B", (36864, 73728, 147456, 294912, 589824)),
]
# Method, settings; the counts without a head for ViT-Ti and ViT-B.
OTHERS: list[tuple[str, dict[str, Any], int, int]] = [
    ("linear", {}, 0, 0),
    ("full", {}, 5_524_416, 85_798_656),
    ("bitfit", {}, 25_728, 102_912),
    ("ia3", {}, 13_824, 55_296),
    ("ia3", {"targets": ("k", "v")}, 4_608, 18_432),
    ("ia3", {"targets": ("fc2",)}, 9_216, 36_864),
    ("ia3", {"targets": ("qkv", "fc2")}, 16_128, 64_512),
    ("vera", {"rank": 8, "targets": Q_V}, 4_800, 18_624),
    ("vera", {"targets": Q_V}, 10_752, 24_576),
    ("vera", {"rank": 64}, 7_680, 28_416),
    ("vera", {}, 9_984, 30_720),
    ("vera", {"rank": 8, "targets": ("qkv", "fc1", "fc2")}, 18_720, 74_016),
    ("vera", {"targets": ("qkv", "fc1", "fc2")}, 27_648, 82_944),
    ("lora", {"rank": 1, "targets": ("qkv", "proj", "fc1", "fc2")}, 36_864, 147_456),
]


def count(name: str, vit: str, **settings: Any) -> int:
    method = registry.method(name)
    return method.count(method.Config(**settings), VITS[vit])


@pytest.mark.parametrize(("name", "settings", "vit", "expected"), BY_RANK)
def test_counts_by_rank(
    name: str, settings: dict[str, Any], vit: str, expected: tuple[int, ...]
) -> None:
    ranks = (1, 2, 4, 8, 16)
    assert tuple(count(name, vit, rank=rank, **settings) for rank in ranks) == expected


@pytest.mark.parametrize(("name", "settings", "tiny", "base"), OTHERS)
def test_other_counts(name: str, settings: dict[str, Any], tiny: int, base: int) -> None:
    assert (count(name, "Ti", **settings), count(name, "B", **settings)) == (tiny, base)


# Method, settings; adapter and head on the timm ViT-B with ten classes, whose head has 7,690.
PUBLISHED: list[tuple[str, dict[str, Any], int]] = [
    ("full", {}, 85_806_346),
    ("lora", {"rank": 8}, 294_912 + 7_690),
    ("bitfit", {}, 102_912 + 7_690),
    ("ia3", {}, 55_296 + 7_690),
    ("vera", {}, 30_720 + 7_690),
]


@pytest.mark.parametrize(("name", "settings", "expected"), PUBLISHED)
def test_what_trains_on_vit_base(name: str, settings: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch16_224", num_classes=10)
    assert dims_of(vit) == VITS["B"]
    adapted = adapters.attach(vit, name, **settings)
    assert sum(p.numel() for p in adapted.head_parameters.values()) == 7_690
    assert sum(p.numel() for p in vit.parameters() if p.requires_grad) == expected
