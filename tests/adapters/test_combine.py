"""Several methods as one: what they compute together, what they count, and who refuses whom."""

import itertools

import pytest
import torch

import adapters
from adapters import registry
from adapters.backbones._dims import dims_of
from adapters.combine import config_of
from tests.adapters.vits import images, perturb, small_vit

MISS_AND_LORA = [
    {"name": "miss", "rank": 8, "targets": ["q", "v"]},
    {"name": "lora", "rank": 4, "targets": ["k", "proj"]},
]


@torch.no_grad()
def test_parts_on_different_rows_of_one_linear_change_their_own_rows_as_they_would_alone():
    together = adapters.attach(small_vit(), MISS_AND_LORA)
    perturb(together)
    lora_k, miss_qv = together.vit.blocks[0].attn.qkv.base, together.vit.blocks[0].attn.qkv.adapter
    base = small_vit().blocks[0].attn.qkv
    q, k, v = together.vit.blocks[0].attn.qkv.merged().weight.chunk(3)
    alone = miss_qv.merged(base)[0].chunk(3)
    assert torch.equal(q, alone[0])
    assert torch.equal(v, alone[2])
    assert torch.equal(k, lora_k.adapter.merged(base)[0].chunk(3)[1])


@torch.no_grad()
@pytest.mark.parametrize(
    "methods",
    [
        MISS_AND_LORA,
        [{"name": "ssf"}, {"name": "lora"}],
        [{"name": "ia3"}, {"name": "lora", "targets": ["k", "fc2"]}, {"name": "bitfit"}],
        [{"name": "dora", "targets": ["q"]}, {"name": "lora", "targets": ["q", "v"]}],
        [{"name": "miss", "rank": 8, "mode": "bat", "targets": ["q"]}, {"name": "lora"}],
    ],
)
def test_a_mergeable_combination_merges_and_comes_back_bit_for_bit(methods):
    adapted = adapters.attach(small_vit(), methods)
    perturb(adapted)
    logits = adapted.vit(images())
    adapted.merge()
    assert [type(m) for m in adapted.vit.modules()] == [type(m) for m in small_vit().modules()]
    torch.testing.assert_close(adapted.vit(images()), logits, rtol=1e-5, atol=1e-5)
    adapted.unmerge()
    assert torch.equal(adapted.vit(images()), logits)


def test_a_scale_after_a_low_rank_update_scales_both():
    """`lora+ssf`: the later name stands around the earlier."""
    adapted = adapters.attach(small_vit(), [{"name": "ssf"}, {"name": "lora"}])
    perturb(adapted)
    outer = adapted.vit.blocks[0].attn.qkv
    x = torch.randn(2, 4, 48)
    expected = outer.adapter.scale * outer.base(x) + outer.adapter.shift
    torch.testing.assert_close(outer(x), expected)


@pytest.mark.parametrize(
    "names", [("lora", "bitfit"), ("adaptformer", "bitfit"), ("lora", "vpt_deep"), ("ia3", "ssf")]
)
def test_a_combination_trains_and_counts_the_sum_of_its_parts(names):
    adapted = adapters.attach(small_vit(), [{"name": name} for name in names])
    dims = dims_of(small_vit())
    alone = [registry.method(name) for name in names]
    expected = sum(method.count(method.Config(), dims) for method in alone)
    method = registry.method("+".join(names))
    assert method.count(method.Config(), dims) == expected
    assert sum(p.numel() for p in adapted.adapter_parameters.values()) == expected
    loss = adapted.vit.train()(images()).square().sum()
    loss.backward()
    training = {n for n, p in adapted.vit.named_parameters() if p.requires_grad}
    assert training == set(adapted.trainable_parameters)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("bitfit", "layernorm"), "bitfit and layernorm both train blocks.0.norm1.bias"),
        (("adaptformer", "convpass"), "convpass beside adaptformer: .*BranchedBlock"),
        (("full", "bitfit"), "bitfit and full both train"),
        (("vera", "vera"), "vera_2 takes away what another part put there"),
        (("dora", "dora"), "blocks.0.attn.qkv: DoraLinear given beside DoraLinear"),
    ],
)
def test_a_pair_that_cannot_coexist_is_refused_by_name_before_any_weight_is_there(names, reason):
    method = registry.method("+".join(names))
    with pytest.raises(ValueError, match=reason):
        method.count(method.Config(), dims_of(small_vit()))
    vit = small_vit()
    logits = vit(images())
    with pytest.raises(ValueError, match=reason):
        adapters.attach(vit, [{"name": name} for name in names])
    assert torch.equal(vit(images()), logits), "what was refused leaves the ViT as it was"


def test_the_order_of_the_parts_changes_nothing():
    parts = [(part["name"], part) for part in MISS_AND_LORA] + [("lora", {"name": "lora"})]
    made = []
    for order in itertools.permutations(parts):
        configs = []
        for name, settings in order:
            given = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
            given.pop("name")
            configs.append((name, registry.method(name).Config(**given)))
        made.append(config_of(configs))
    assert {name for name, _ in made} == {"lora+lora+miss"}
    assert len(set(made)) == 1


def test_one_method_alone_is_no_combination():
    with pytest.raises(ValueError, match="lora given, allowed: two or more methods"):
        adapters.attach(small_vit(), [{"name": "lora"}])
    with pytest.raises(ValueError, match="allowed: a name and settings"):
        adapters.attach(small_vit(), [{"rank": 3}, {"name": "lora"}])
    with pytest.raises(ValueError, match="unknown setting of miss 'alpha'"):
        adapters.attach(small_vit(), [{"name": "lora"}, {"name": "miss", "alpha": 3}])
