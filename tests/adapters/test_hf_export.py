"""The folders of `adapters.hf_peft`, loaded by Hugging Face PEFT itself onto the same timm ViT."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.hf_peft import hf_folder

LINEARS = ("qkv", "proj", "fc1", "fc2")
WITH_PARTS = ("q", "v", "proj", "fc1", "fc2")
TARGETS = [("qkv",), ("q", "v"), ("q", "k", "v"), LINEARS, WITH_PARTS]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"rank": 4, "alpha": 6.0}),
    ("lora", {"rank": 4, "alpha": 6.0, "rank_stabilised": True}),
    ("dora", {"rank": 4, "alpha": 6.0}),
    ("vera", {"rank": 8}),
    ("ia3", {}),
    ("miss", {"rank": 8}),
    ("miss", {"rank": 5}),  # does not divide the inputs
    ("miss", {"rank": 8, "mode": "bat"}),
    ("miss", {"rank": 8, "mode": "mini", "mini_rank": 6}),
]


@pytest.fixture(scope="module")
def peft() -> ModuleType:
    """Importing it takes seconds: after collection, and only if a test here runs."""
    import peft

    return peft


@cache
def base_vit(**settings: Any) -> VisionTransformer:
    """A ViT of two blocks with every tensor, biases too, away from its usual start."""
    sizes = {"img_size": 14, "patch_size": 7, "embed_dim": 24, "depth": 2, "num_heads": 3}
    vit = VisionTransformer(**{"num_classes": 5} | sizes | settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return vit.eval()


def trained(name: str, vit: nn.Module | None = None, **settings: Any) -> Adapted:
    """An adapted ViT in which no trained tensor, the head's included, is where it started."""
    adapted = adapters.attach(copy.deepcopy(base_vit() if vit is None else vit), name, **settings)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.trainable_parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    adapted.vit.eval()
    return adapted


def files(adapted: Adapted, **settings: Any) -> dict[str, bytes]:
    config = registry.method(adapted.method).Config(**settings)
    return hf_folder(adapted.vit, adapted.method, config)


def loaded(
    peft: ModuleType, folder: Path, content: dict[str, bytes], vit: nn.Module | None = None
) -> nn.Module:
    for name, data in content.items():
        (folder / name).write_bytes(data)
    base = copy.deepcopy(base_vit() if vit is None else vit)
    model: nn.Module = peft.PeftModel.from_pretrained(base, folder)
    return model.eval()


@torch.no_grad()
def assert_same_logits(adapted: Adapted, model: nn.Module, base: nn.Module) -> None:
    x = torch.randn(3, 3, 14, 14, generator=torch.Generator().manual_seed(2))
    logits: Tensor = adapted.vit(x)
    assert (logits - base(x)).abs().max() > 0.01, "the adapter changes nothing that can be seen"
    torch.testing.assert_close(model(x), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_peft_loads_the_folder_and_gives_the_same_logits(
    peft: ModuleType, tmp_path: Path, name: str, settings: dict[str, Any], targets: tuple[str, ...]
) -> None:
    settings = settings | {"targets": targets}
    adapted = trained(name, **settings)
    model = loaded(peft, tmp_path, files(adapted, **settings))
    assert_same_logits(adapted, model, base_vit())


@pytest.mark.parametrize("name", ["lora", "dora", "vera", "ia3", "miss"])
def test_all_linears_of_many_blocks_are_found_by_their_names(
    peft: ModuleType, tmp_path: Path, name: str
) -> None:
    """From 20 names on PEFT shortens them; blocks.1 and blocks.11 must stay apart."""
    vit, settings = base_vit(depth=12), {"targets": LINEARS}
    settings |= {} if name == "ia3" else {"rank": 4}
    adapted = trained(name, vit, **settings)
    model = loaded(peft, tmp_path, files(adapted, **settings), vit)
    assert_same_logits(adapted, model, vit)


@pytest.mark.parametrize("name", ["lora", "dora", "vera", "ia3", "miss"])
def test_blocks_without_an_adapter_stay_without(
    peft: ModuleType, tmp_path: Path, name: str
) -> None:
    settings: dict[str, Any] = {"targets": ("k", "fc2")} | ({} if name == "ia3" else {"rank": 4})
    adapted = trained(name, **settings)
    for linear in ("attn.qkv", "mlp.fc2"):
        path = f"blocks.0.{linear}"
        adapted.vit.set_submodule(path, adapted.vit.get_submodule(path).base)
    content = files(adapted, **settings)
    named = json.loads(content["adapter_config.json"])["target_modules"]
    assert named == ["blocks.1.attn.qkv", "blocks.1.mlp.fc2"]
    assert_same_logits(adapted, loaded(peft, tmp_path, content), base_vit())


@pytest.mark.parametrize("stabilised", [False, True])
@pytest.mark.parametrize("name", ["lora", "dora"])
def test_targets_of_different_rank(
    peft: ModuleType, tmp_path: Path, name: str, stabilised: bool
) -> None:
    settings = {"rank": (4, 2, 3, 1), "targets": ("q", "v", "fc1", "fc2"), "alpha": 6.0}
    settings |= {"rank_stabilised": stabilised}
    adapted = trained(name, **settings)
    content = files(adapted, **settings)
    patterns = json.loads(content["adapter_config.json"])
    ranks = {f"blocks.{b}.mlp.{fc}": r for b in (0, 1) for fc, r in (("fc1", 3), ("fc2", 1))}
    assert (patterns["r"], patterns["rank_pattern"]) == (8, ranks)
    assert_same_logits(adapted, loaded(peft, tmp_path, content), base_vit())


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_the_tensors_are_named_as_peft_names_them_when_it_saves(
    peft: ModuleType, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    content = files(trained(name, **settings), **settings)
    model = loaded(peft, tmp_path, content)
    ours = safetensors.torch.load(content["adapter_model.safetensors"])
    theirs = peft.get_peft_model_state_dict(model)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], tensor) for key, tensor in ours.items())


def test_dropout_comes_along(peft: ModuleType, tmp_path: Path) -> None:
    for name in ("lora", "dora", "vera", "miss"):
        settings = {"rank": 4, "dropout": 0.25}
        model = loaded(peft, tmp_path, files(trained(name, **settings), **settings))
        rates = {m.p for path, m in model.named_modules() if path.endswith("_dropout.default")}
        assert rates == {0.25}, name


def test_mini_for_row_blocks_is_written_as_balance() -> None:
    settings = {"rank": 8, "mode": "mini", "mini_rank": 6, "targets": ("q", "fc1")}
    content = files(trained("miss", **settings), **settings)
    assert json.loads(content["adapter_config.json"])["init_weights"] is True
    tensors = safetensors.torch.load(content["adapter_model.safetensors"])
    block = tensors["base_model.model.blocks.0.attn.qkv.miss_block"]
    assert block.shape == (8, 72)
    assert not block[:, 24:].any(), "the key and value rows are not adapted"
    assert torch.equal(block[:, :6], block[:, 6:12])


ABLE = "dora, ia3, lora, miss, vera"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "cp",
            f"cp: given for a PEFT folder, allowed: {ABLE}; export the merged checkpoint instead",
        ),
        ("vpt_deep", f"vpt_deep: given for a PEFT folder, allowed: {ABLE}"),
    ],
)
def test_a_method_that_peft_has_not_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        files(trained(name))


def test_a_method_says_why_peft_cannot_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.method("cp"), "NO_HF_PEFT", "for a reason", raising=False)
    with pytest.raises(
        ValueError, match=r"^cp: given for a PEFT folder \(for a reason\), allowed:"
    ):
        files(trained("cp"))


def test_a_merged_vit_is_refused() -> None:
    adapted = trained("lora")
    adapted.merge()
    with pytest.raises(ValueError, match=r"^lora: a ViT without adapters given for a PEFT folder"):
        files(adapted)
