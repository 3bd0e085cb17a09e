"""Saving an adapter and loading it on another ViT with the same weights."""

import pytest
import torch

import adapters
from adapters import registry
from tests.adapters.vits import FITTING, images, perturb, small_vit


@torch.no_grad()
@pytest.mark.parametrize("name", registry.names("methods"))
def test_a_saved_adapter_gives_equal_logits_on_a_fresh_vit(name, tmp_path):
    adapted = adapters.attach(small_vit(), name, seed=4, **FITTING.get(name, {}))
    perturb(adapted)
    adapted.save(tmp_path / "a.safetensors")
    loaded = adapters.load(small_vit(), tmp_path / "a.safetensors")
    assert torch.equal(loaded.vit(images()), adapted.vit(images()))
    assert loaded.method == name


@torch.no_grad()
def test_it_brings_its_head_and_sits_beside_others(tmp_path):
    vit = small_vit()
    vit.reset_classifier(7)
    methods = [{"name": "lora", "targets": ["q"]}, {"name": "ssf"}]
    adapted = adapters.attach(vit, methods)
    perturb(adapted)
    adapted.save(tmp_path / "seven.safetensors")

    other = small_vit()
    base = other(images())
    adapters.attach(other, "ia3", name="first")
    both = adapters.load(other, tmp_path / "seven.safetensors", name="seven")
    assert both.names == ("first", "seven")
    assert torch.equal(other(images()), adapted.vit(images()))
    assert other.num_classes == 7
    both.use("first")
    assert torch.equal(other(images()), base)
    assert other.num_classes == 5


def test_other_weights_and_other_sizes_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    adapters.attach(small_vit(), "lora").save(path)
    vit = small_vit()
    with torch.no_grad():
        vit.blocks[1].mlp.fc1.weight[0, 0] += 1e-3
    with pytest.raises(ValueError, match="a ViT with other frozen weights given"):
        adapters.load(vit, path)
    with pytest.raises(ValueError, match=r"size mismatch for blocks\.0\.attn\.qkv\.adapter\.A"):
        adapters.load(small_vit(embed_dim=96), path)
    assert adapters.attach(vit, "lora").names == ("default",), "a refusal leaves no adapter behind"


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_adapter_is_refused(content, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no adapter of format 1"):
        adapters.load(small_vit(), path)
