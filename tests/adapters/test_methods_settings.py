"""Wrong methods and settings are named in the error; so is a method that names wrong tensors."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import adapters
from adapters import registry
from adapters.adapted import adapt

REFUSED = {
    "rank": (0, -1, True, 2.5, "8", (), (1, 2), (1, 0, 2), (1,) * 5),
    "dropout": (-0.1, 1.0, float("nan")),
    "alpha": (0.0, -1.0, float("inf")),
    "targets": ("qkv", (), ("attn",), ("k", "k"), ("q", "qkv")),
    "init": ("zeros",),
}
SHARED_SETTINGS = [
    (name, field.name)
    for name in registry.names("methods")
    for field in dataclasses.fields(registry.method(name).Config)
    if field.name in REFUSED
]


def small_vit() -> VisionTransformer:
    return VisionTransformer(img_size=28, patch_size=14, embed_dim=12, depth=1, num_heads=3)


@pytest.mark.parametrize(("name", "field"), SHARED_SETTINGS)
def test_wrong_settings_are_named(name: str, field: str) -> None:
    for value in REFUSED[field]:
        with pytest.raises(ValueError, match=rf"^{field}: .* given.*allowed"):
            registry.method(name).Config(**{field: value})


def test_settings_of_one_method_alone() -> None:
    with pytest.raises(ValueError, match=r"^d_initial: 0\.0 given"):
        registry.method("vera").Config(d_initial=0.0)
    with pytest.raises(ValueError, match=r"^projection_seed: -1 given"):
        registry.method("vera").Config(projection_seed=-1)


def test_unknown_names_come_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="Did you mean 'lora'"):
        adapters.attach(small_vit(), "lorra")
    with pytest.raises(ValueError, match=r"setting of lora 'ranks'.*Did you mean 'rank'"):
        adapters.attach(small_vit(), "lora", ranks=4)


@pytest.mark.parametrize("names", [["head.weight"], ["nowhere"], ["cls_token", "cls_token"]])
def test_a_method_that_returns_wrong_names_is_named(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SimpleNamespace(attach=lambda vit, config, generator: names)
    monkeypatch.setattr(registry, "method", lambda name: broken)
    with pytest.raises(RuntimeError, match="broken"):
        adapt(small_vit(), "broken", None, torch.Generator())


def test_a_vit_without_a_head_trains_the_adapter_alone() -> None:
    vit = small_vit()
    vit.reset_classifier(0)
    adapted = adapters.attach(vit, "lora")
    assert adapted.head_parameters == {}
    assert adapted.trainable_parameters == adapted.adapter_parameters


def test_parameters_are_not_to_be_had_while_merged() -> None:
    adapted = adapters.attach(small_vit(), "lora")
    adapted.merge()
    with pytest.raises(ValueError, match="lora"):
        _ = adapted.adapter_parameters


def test_the_order_of_targets_and_the_spelling_of_a_rank_change_no_config():
    lora, tucker3 = registry.method("lora").Config, registry.method("tucker3").Config
    assert lora(targets=("v", "q")) == lora(targets=("q", "v"))
    assert tucker3(rank=(8, 8, 8)) == tucker3(rank=8) != tucker3(rank=(3, 8, 8))
