"""Several adapters on one ViT, one active at a time, and the base model beneath them."""

import copy

import pytest
import torch

import adapters
from adapters import registry
from tests.adapters.vits import FITTING, images, perturb, small_vit


@torch.no_grad()
@pytest.mark.parametrize("name", registry.names("methods"))
def test_disabled_is_the_base_bit_for_bit_whatever_the_method(name):
    vit = small_vit()
    base, state = vit(images()), {n: t.clone() for n, t in vit.state_dict().items()}
    adapted = adapters.attach(vit, name, **FITTING.get(name, {}))
    perturb(adapted)
    trained = vit(images())
    assert not torch.equal(trained, base)
    with adapted.disabled() as plain:
        assert plain is vit
        assert torch.equal(vit(images()), base)
        assert not any(p.requires_grad for p in vit.parameters())
        held = vit.state_dict()
        assert held.keys() == state.keys()
        assert all(torch.equal(held[n], tensor) for n, tensor in state.items())
    assert torch.equal(vit(images()), trained)


@torch.no_grad()
def test_each_name_brings_its_adapter_and_its_head():
    vit = small_vit()
    first = adapters.attach(vit, "bitfit", name="task1")
    perturb(first, seed=1)
    logits1 = vit(images())
    second = adapters.attach(vit, "vpt_deep", name="task2")
    assert second is first
    assert second.names == ("task1", "task2")
    perturb(second, seed=2)
    logits2 = vit(images())
    third = adapters.attach(vit, "multi_layer_tucker", name="task3", rank=2)
    perturb(third, seed=3)
    logits3 = vit(images())
    for name, logits in (("task1", logits1), ("task3", logits3), ("task2", logits2)):
        first.use(name)
        assert torch.equal(vit(images()), logits), name
        assert first.active.method in ("bitfit", "vpt_deep", "multi_layer_tucker")
    first.remove("task2")
    with pytest.raises(ValueError, match="no adapter is active, allowed: use one of task1, task3"):
        first.adapter_parameters  # noqa: B018 - a property that refuses
    first.use("task1")
    assert torch.equal(vit(images()), logits1)


def test_only_the_active_adapter_trains():
    vit = small_vit()
    adapted = adapters.attach(vit, "lora", name="a")
    a = dict(adapted.trainable_parameters)
    adapters.attach(vit, "ia3", name="b")
    vit.train()(images()).sum().backward()
    assert all(p.grad is None for p in a.values())
    assert all(p.grad is not None for p in adapted.trainable_parameters.values())
    adapted.use("a")
    assert {n for n, p in vit.named_parameters() if p.requires_grad} == set(a)


def test_a_name_that_is_taken_or_unknown_is_refused():
    vit = small_vit()
    adapted = adapters.attach(vit, "lora")
    with pytest.raises(ValueError, match="name: 'default' given, allowed: a name that no adapter"):
        adapters.attach(vit, "ia3")
    with pytest.raises(ValueError, match="Did you mean 'default'"):
        adapted.use("defualt")
    adapted.merge()
    for act in (lambda: adapted.use("default"), lambda: adapters.attach(vit, "ia3", name="b")):
        with pytest.raises(ValueError, match="merged already, allowed: unmerge first"):
            act()


@torch.no_grad()
def test_what_cannot_be_attached_leaves_the_active_adapter_active():
    vit = small_vit()
    adapted = adapters.attach(vit, "lora", name="a")
    perturb(adapted)
    logits = vit(images())
    with pytest.raises(ValueError, match="rank"):
        adapters.attach(vit, "miss", name="b", rank=1000)
    assert adapted.names == ("a",)
    assert torch.equal(vit(images()), logits)


@torch.no_grad()
def test_a_copy_of_the_vit_has_adapters_of_its_own():
    vit = small_vit()
    adapters.attach(vit, "lora", name="a")
    other = copy.deepcopy(vit)
    adapted = adapters.attach(other, "ia3", name="b")
    perturb(adapted)
    adapted.use("a")
    assert torch.equal(other(images()), vit(images()))
    assert adapters.attach(vit, "ia3", name="b").names == ("a", "b")


@torch.no_grad()
def test_layers_name_the_places_of_the_plain_vit():
    lora = adapters.attach(small_vit(), "lora", targets=["q", "fc1"]).layers()
    assert list(lora) == [
        f"blocks.{b}.{linear}" for b in (0, 1) for linear in ("attn.qkv", "mlp.fc1")
    ]
    assert lora["blocks.0.mlp.fc1"] == (
        "blocks.0.mlp.fc1.adapter.A",
        "blocks.0.mlp.fc1.adapter.B",
    )
    assert set(adapters.attach(small_vit(), "vpt_deep").layers()) == {"blocks.0", "blocks.1"}
    shared = adapters.attach(small_vit(), "multi_layer_tucker").layers()
    assert shared["multi_layer_tucker"] if "multi_layer_tucker" in shared else shared[""]
    assert shared["blocks.1.attn.qkv"] == ()
    bias = adapters.attach(small_vit(), "bitfit").layers()
    assert bias["blocks.0.norm1"] == ("blocks.0.norm1.bias",)
