"""What holds of the methods of the OSU study by construction, and what they refuse."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import adapters
from adapters import registry
from adapters.backbones._dims import dims_of
from adapters.methods._prompts import PromptedBlock

WIDTH = 24


@cache
def base_vit(**kind: Any) -> VisionTransformer:
    """In float64, every tensor of it, biases too, away from its usual start."""
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": WIDTH, "depth": 3, "num_heads": 3}
    vit = VisionTransformer(num_classes=5, **sizes | kind)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return vit.double().eval()


def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 28, 28, generator=generator, dtype=torch.float64)


def attach(name: str, kind: dict[str, Any] | None = None, **settings: Any) -> adapters.Adapted:
    """`name` on a copy of the ViT, in float64, every trained tensor of it away from its start."""
    adapted = adapters.attach(copy.deepcopy(base_vit(**kind or {})), name, **settings)
    adapted.vit.double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.adapter_parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return adapted


def own(adapted: adapters.Adapted) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in adapted.adapter_parameters.items()}


def quick(u: Tensor) -> Tensor:
    return u / (1 + (-1.702 * u).exp())


@pytest.mark.parametrize(
    "name", ["adaptformer", "pfeiffer", "houlsby", "adapter_zero", "convpass", "repadapter"]
)
@torch.no_grad()
def test_a_scale_of_zero_gives_the_base_model(name: str) -> None:
    adapted = attach(name)
    for module in adapted.vit.modules():
        if hasattr(module, "scale") and hasattr(module, "down"):
            module.scale = 0.0
    assert torch.equal(adapted.vit(images()), base_vit()(images()))


@torch.no_grad()
def test_what_prompts_do_to_a_vit() -> None:
    deep = attach("vpt_deep", prompts=5)
    logits = deep.vit(images())
    for parameter in deep.adapter_parameters.values():
        parameter.copy_(parameter.flip(0))  # in any order they are the same set of tokens
    torch.testing.assert_close(deep.vit(images()), logits, rtol=0, atol=1e-12)

    shallow, study = attach("vpt_shallow"), attach("vpt_shallow", through="first")
    assert torch.equal(*(own(adapted)["blocks.0.prompts"] for adapted in (shallow, study)))
    assert not torch.allclose(shallow.vit(images()), study.vit(images()))
    alike = attach("vpt_deep", blocks=(0,))
    assert torch.equal(alike.vit(images()), study.vit(images()))
    two, same_two = attach("vpt_deep", blocks=(0, 1)), attach("vpt_deep", blocks=(1, -3))
    assert torch.equal(two.vit(images()), same_two.vit(images()))

    block = base_vit().blocks[0]
    none = PromptedBlock(block, prompts_PD=torch.empty(0, WIDTH), dropped=0, dropout=0.0)
    x = torch.randn(2, 17, WIDTH, dtype=torch.float64)
    assert torch.equal(none(x), block(x))


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep", "vqt"])
@torch.no_grad()
def test_one_mask_drops_prompts_for_the_whole_batch(name: str) -> None:
    vit = attach(name, dropout=0.5).vit.train()
    pair = images()[:1].expand(2, -1, -1, -1)
    first, second = vit(pair)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
    assert not torch.allclose(vit(pair)[0], first)


@pytest.mark.parametrize("name", ["ssf", "repadapter", "difffit"])
@torch.no_grad()
def test_merging_makes_the_biases_that_a_vit_lacks(name: str) -> None:
    adapted = attach(name, {"pre_norm": True, "qkv_bias": False, "proj_bias": False})
    logits = adapted.vit(images())
    adapted.merge()
    torch.testing.assert_close(adapted.vit(images()), logits, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
@pytest.mark.parametrize("depth", [1, 2])
@torch.no_grad()
def test_prompts_are_gone_before_tokens_are_pooled(name: str, depth: int) -> None:
    kind = {"class_token": False, "global_pool": "avg", "reg_tokens": 2, "depth": depth}
    prompted = attach(name, kind).vit.forward_features(images())
    plain = base_vit(**kind).forward_features(images())
    assert prompted.shape == plain.shape
    assert not torch.allclose(prompted, plain)


@torch.no_grad()
def test_convpass_with_the_identity_kernel_sees_each_token_alone() -> None:
    module = attach("convpass").vit.blocks[0].mlp_adapter
    z = torch.randn(2, 17, WIDTH, dtype=torch.float64)
    changed = module(z)
    module.conv.weight[:, :, 1, 1] = torch.eye(8)
    token = module(z)[:, 0]
    module.conv.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    module.conv.bias.zero_()
    by_token = module.scale * module.up(quick(quick(module.down(z))))
    torch.testing.assert_close(module(z), by_token, rtol=0, atol=1e-12)
    module.conv.weight[:, :, 0] = 1.0
    torch.testing.assert_close(module(z)[:, 0], by_token[:, 0], rtol=0, atol=1e-12)
    assert not torch.allclose(changed[:, 0], token)
    assert not torch.allclose(module(z)[:, 1:], by_token[:, 1:])


@torch.no_grad()
def test_a_group_of_repadapter_reaches_its_own_features_alone() -> None:
    adapted = attach("repadapter")
    adapter = adapted.vit.blocks[0].mlp.fc1.adapter
    base = torch.nn.Linear(WIDTH, WIDTH, bias=False).double()
    base.weight.copy_(torch.eye(WIDTH))
    z = torch.randn(2, 17, WIDTH, dtype=torch.float64)
    before = adapter(z, base)
    adapter.down[4:].zero_()  # the second group of the bottleneck
    adapter.down_bias[4:].zero_()
    changed = (adapter(z, base) != before).any(0).any(0)
    assert changed.tolist() == [False] * (WIDTH // 2) + [True] * (WIDTH // 2)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("adapter", {"bottleneck": 0}, "bottleneck: 0 given"),
    ("pfeiffer", {"bottleneck": True}, "bottleneck: True given"),
    ("convpass", {"bottleneck": 2.5}, "bottleneck: 2.5 given"),
    ("adapter_zero", {"scale": 0.0}, "scale: 0.0 given"),
    ("houlsby", {"scale": "learnt"}, "scale: 'learnt' given"),
    ("adapter", {"placement": "after"}, "placement: 'after' given"),
    ("adaptformer", {"init": "kaiming"}, "init: 'kaiming' given"),
    ("convpass", {"kernel_init": "zero"}, "kernel_init: 'zero' given"),
    ("repadapter", {"groups": 3}, "groups: 3 given with bottleneck: 8"),
    ("vpt_deep", {"prompts": 0}, "prompts: 0 given"),
    ("vpt_deep", {"blocks": ()}, "blocks: [] given"),
    ("vpt_shallow", {"through": "last"}, "through: 'last' given"),
    ("vqt", {"init": "zeros"}, "init: 'zeros' given"),
    ("attention", {"part": "q"}, "part: 'q' given"),
    ("mlp", {"indices": (1, 1)}, "indices: [1, 1] given"),
    ("blocks", {"indices": 3}, "indices: 3 given"),
    ("blocks", {"indices": (True,)}, "indices: (True,) given"),
]


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED)
def test_wrong_settings_are_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        registry.method(name).Config(**settings)
    assert str(refused.value).startswith(message)
    assert "allowed" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("attention", {"indices": (3,)}, "attention: indices: 3 given for a ViT of 3 blocks"),
        ("mlp", {"indices": (-4,)}, "mlp: indices: -4 given"),
        ("blocks", {"indices": (2, -1)}, "blocks: indices: .2, -1. given"),
        ("vpt_deep", {"blocks": (0, 3)}, "vpt_deep: blocks: 3 given"),
        ("repadapter", {"bottleneck": 10, "groups": 5}, "repadapter: groups: 5 given"),
    ],
)
def test_settings_that_a_vit_cannot_take(name: str, settings: Any, message: str) -> None:
    method = registry.method(name)
    with pytest.raises(ValueError, match=message):
        method.count(method.Config(**settings), dims_of(base_vit()))
    with pytest.raises(ValueError, match=message):
        attach(name, **settings)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("convpass", {"reg_tokens": 4}),
        ("convpass", {"class_token": False, "global_pool": "avg"}),
        ("convpass", {"img_size": (28, 56)}),
        ("vqt", {"global_pool": "avg"}),
        ("vqt", {"fc_norm": True}),
        ("vqt", {"class_token": False, "global_pool": "avg"}),
        ("ssf", {"embed_norm_layer": torch.nn.LayerNorm}),
        ("ssf", {"final_norm": False}),
    ],
)
def test_vits_that_a_method_cannot_take(name: str, kind: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*allowed"):
        attach(name, kind)
    without_prefix = not kind.get("class_token", True)
    if without_prefix or "reg_tokens" in kind:
        with pytest.raises(ValueError, match=f"^{name}: .*allowed"):
            registry.method(name).count(registry.method(name).Config(), dims_of(base_vit(**kind)))
