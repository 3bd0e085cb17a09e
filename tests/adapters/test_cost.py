"""What inference costs: exact counts, and a clock that is read fairly."""

import copy

import pytest
import torch
from torch import nn

from adapters import backbones, registry
from adapters.cost import _times, gmacs, inference_cost
from adapters.spec import TrialSpec
from adapters.trial import build
from adapters.warm import Warm

CLASSES = 10
BACKBONE = "vit_tiny_fashion"
DIMS = backbones.describe(BACKBONE).dims
PATCHES = (DIMS.image_size // DIMS.patch_size) ** 2
TOKENS = PATCHES + DIMS.prefix_tokens


@pytest.fixture(scope="module")
def warm():
    return Warm(torch.device("cpu"))


def spec(method, **settings):
    data = registry.dataset("fashion_mnist")
    return TrialSpec(
        backbone=BACKBONE,
        dataset="fashion_mnist",
        dataset_config=data.Config(),
        method=method,
        method_config=registry.method(method).Config(**settings),
    )


def measured(given, warm):
    return inference_cost(given, CLASSES, warm, batch=1, rounds=5)


def by_hand():
    """Multiply-adds of one image on the plain ViT."""
    d, t = DIMS.width, TOKENS
    linears = t * (d * 3 * d + d * d + 2 * d * DIMS.mlp_width)
    attention = 2 * t * t * d
    patches = PATCHES * 3 * DIMS.patch_size**2 * d
    return DIMS.depth * (linears + attention) + patches + d * CLASSES


def test_the_plain_vit_costs_what_the_formula_says(warm):
    assert measured(spec("linear"), warm).plain.gmacs == pytest.approx(by_hand() / 1e9, rel=1e-12)


def test_lora_costs_its_two_products_until_it_is_merged(warm):
    found = measured(spec("lora", rank=4, targets=("qkv",)), warm)
    extra = DIMS.depth * TOKENS * 4 * (DIMS.width + 3 * DIMS.width)
    assert found.unmerged.gmacs - found.plain.gmacs == pytest.approx(extra / 1e9, rel=1e-9)
    assert found.merged.gmacs == found.plain.gmacs
    assert found.not_merged is None


def test_counts_are_of_one_image_and_grow_with_their_number(warm):
    vit = warm.backbone(BACKBONE)
    size = DIMS.image_size
    one, three = (gmacs(vit, torch.zeros(n, 3, size, size)) for n in (1, 3))
    assert three == pytest.approx(3 * one)


def test_what_cannot_be_merged_says_why(warm):
    found = measured(spec("vpt_deep"), warm)
    assert found.merged is None
    assert "vpt_deep given" in found.not_merged
    assert found.unmerged.gmacs > found.plain.gmacs, "prompts are tokens too"


def test_the_parameters_are_the_models(warm):
    given = spec("lora", rank=4)
    found = measured(given, warm)
    trained = build(given, CLASSES, warm).trainable_parameters.values()
    assert found.trainable_params == sum(tensor.numel() for tensor in trained)
    assert found.adapter_params == registry.method("lora").count(given.method_config, DIMS)
    assert found.total_params == DIMS.params + found.trainable_params


def test_speeds_are_positive_and_the_plain_vit_is_as_fast_as_itself(warm):
    found = measured(spec("lora"), warm)
    for one in (found.plain, found.unmerged, found.merged):
        assert one.images_per_second > 0
        assert one.relative_speed > 0
    assert found.plain.relative_speed == 1


def test_measuring_leaves_the_kept_backbone_as_it_was(warm):
    before = copy.deepcopy(warm.frozen(BACKBONE).state_dict())
    measured(spec("full"), warm)
    after = warm.frozen(BACKBONE).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Named(nn.Module):
    """Notes its passes."""

    def __init__(self, name, log):
        super().__init__()
        self.name, self.log = name, log

    def forward(self, _):
        self.log.append((self.name, torch.is_inference_mode_enabled()))


def test_models_take_turns_in_alternating_order_after_one_pass_that_does_not_count():
    log = []
    times = _times([Named(name, log) for name in "abc"], torch.zeros(1, 3, 2, 2), 3)
    assert "".join(name for name, _ in log) == "cba" + "abc" + "cba" + "abc"
    assert all(inference for _, inference in log)
    assert [len(own) for own in times] == [3, 3, 3]


@pytest.mark.parametrize(("batch", "rounds", "name"), [(0, 5, "batch"), (1, 4, "rounds")])
def test_too_small_numbers_are_refused(warm, batch, rounds, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        inference_cost(spec("linear"), CLASSES, warm, batch=batch, rounds=rounds)
