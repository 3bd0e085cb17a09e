"""The methods that Hugging Face PEFT has, too: same tensors in, same logits, gradients and counts.

PEFT adapts whole Linears only, so the fused qkv is compared here. What it makes of q, k and v named
apart is in `test_hf_export.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.anatomy import LINEARS
from adapters.backbones._dims import dims_of

ALL = tuple(LINEARS)
LORA = {"A": "lora_A.default.weight", "B": "lora_B.default.weight"}
TENSORS = {
    "lora": LORA,
    "dora": LORA | {"m": "lora_magnitude_vector.default.weight"},
    "vera": {"lambda_d": "vera_lambda_d.default", "lambda_b": "vera_lambda_b.default"},
    "ia3": {"scale": "ia3_l.default"},
    "miss": {"D": "miss_block.default"},
}
"""What an adapter of ours calls a tensor, and what PEFT's layer calls it."""

R4 = {"rank": 4, "alpha": 6.0}
HF4 = {"r": 4, "lora_alpha": 6}
MINI = {"rank": 8, "mode": "mini", "mini_rank": 6}
SEEDED = {"rank": 8, "projection_seed": 7, "d_initial": 0.5}
HF_SEEDED = {"r": 8, "projection_prng_key": 7, "d_initial": 0.5}


class Case(NamedTuple):
    """A method with settings, and the configuration that means the same to PEFT."""

    method: str
    settings: dict[str, Any]
    config: str
    hf_settings: dict[str, Any]


CASES = {
    "lora": Case("lora", R4, "LoraConfig", HF4),
    "rslora": Case(
        "lora", R4 | {"rank_stabilised": True}, "LoraConfig", HF4 | {"use_rslora": True}
    ),
    "dora": Case("dora", R4, "LoraConfig", HF4 | {"use_dora": True}),
    "vera": Case("vera", {"rank": 8}, "VeraConfig", {"r": 8}),
    "vera_seeded": Case("vera", SEEDED, "VeraConfig", HF_SEEDED),
    "ia3": Case("ia3", {}, "IA3Config", {}),
    "miss": Case("miss", {"rank": 8}, "MissConfig", {"r": 8}),
    "miss_odd": Case("miss", {"rank": 5}, "MissConfig", {"r": 5}),  # does not divide the inputs
    "miss_bat": Case(
        "miss", {"rank": 8, "mode": "bat"}, "MissConfig", {"r": 8, "init_weights": "bat"}
    ),
    "miss_mini": Case("miss", MINI, "MissConfig", {"r": 8, "init_weights": "mini", "mini_r": 6}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_target = pytest.mark.parametrize("targets", [("qkv",), ("proj", "fc2"), ALL], ids="+".join)


@pytest.fixture(scope="module")
def peft() -> ModuleType:
    """Importing it takes seconds: after collection, and only if a test here runs."""
    import peft

    return peft


@cache
def base_vit() -> VisionTransformer:
    """A ViT of 16 patches with every tensor, biases too, away from its usual start."""
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 48, "depth": 2, "num_heads": 3}
    vit = VisionTransformer(num_classes=5, **sizes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return vit.eval()


def theirs(peft: ModuleType, case: Case, targets: tuple[str, ...] = ALL) -> nn.Module:
    # By the last two parts of their paths, since "proj" alone is the patch embedding's, too.
    modules = {"target_modules": [LINEARS[target] for target in targets]}
    if case.method == "ia3":
        modules["feedforward_modules"] = [LINEARS[t] for t in targets if t == "fc2"]
    torch.manual_seed(0)  # PEFT draws from the global generator
    model: nn.Module = peft.get_peft_model(
        copy.deepcopy(base_vit()), getattr(peft, case.config)(**modules | case.hf_settings)
    )
    return model.eval()


def ours(case: Case, targets: tuple[str, ...] = ALL) -> Adapted:
    settings = case.settings | {"targets": targets}
    adapted = adapters.attach(copy.deepcopy(base_vit()), case.method, **settings)
    adapted.vit.eval()
    return adapted


def pairs(adapted: Adapted, model: nn.Module) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
    """(name, ours, theirs) of every tensor that the method trains."""
    for name, own in adapted.adapter_parameters.items():
        path, tensor = name.split(".adapter.")
        other = f"base_model.model.{path}.{TENSORS[adapted.method][tensor]}"
        yield name, own, model.get_parameter(other)


def images() -> Tensor:
    return torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def give_both_the_same(adapted: Adapted, model: nn.Module) -> None:
    """PEFT's tensors, moved away from where they start, so that none is zero or one, in both."""
    generator = torch.Generator().manual_seed(3)
    for _, own, other in pairs(adapted, model):
        other.add_(torch.randn(other.shape, generator=generator), alpha=0.1)
        own.copy_(other.reshape(own.shape))


@every_target
@every_case
@torch.no_grad()
def test_the_same_tensors_give_the_same_logits(
    peft: ModuleType, case: Case, targets: tuple[str, ...]
) -> None:
    adapted, model = ours(case, targets), theirs(peft, case, targets)
    give_both_the_same(adapted, model)
    logits, expected = adapted.vit(images()), model(images())
    assert (expected - base_vit()(images())).abs().max() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@every_case
def test_the_same_tensors_get_the_same_gradients(peft: ModuleType, case: Case) -> None:
    adapted, model = ours(case), theirs(peft, case)
    give_both_the_same(adapted, model)
    for vit in (adapted.vit.train(), model.train()):
        nn.functional.cross_entropy(vit(images()), torch.tensor([0, 2, 4])).backward()
    for tensor, own, other in pairs(adapted, model):
        assert own.grad is not None
        assert other.grad is not None
        assert other.grad.abs().max() > 1e-6, tensor
        torch.testing.assert_close(
            own.grad, other.grad.reshape(own.shape), rtol=1e-4, atol=1e-6, msg=tensor
        )


@every_case
def test_what_is_not_drawn_starts_the_same(peft: ModuleType, case: Case) -> None:
    adapted, model = ours(case), theirs(peft, case)
    for tensor, own, other in pairs(adapted, model):
        if not tensor.endswith(".A"):
            torch.testing.assert_close(own, other.reshape(own.shape), rtol=1e-6, atol=0, msg=tensor)


@pytest.mark.parametrize("case", ["vera", "vera_seeded"])
def test_vera_draws_the_projections_that_peft_draws(peft: ModuleType, case: str) -> None:
    own = ours(CASES[case]).vit.get_submodule("vera")
    model = theirs(peft, CASES[case]).base_model
    torch.testing.assert_close(own.A, model.vera_A["default"], rtol=1e-6, atol=0)
    torch.testing.assert_close(own.B, model.vera_B["default"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("init", "hf_init"), [("kaiming", True), ("gaussian", "gaussian")])
def test_lora_draws_a_from_the_same_distribution(
    peft: ModuleType, init: str, hf_init: bool | str
) -> None:
    case = Case("lora", R4 | {"init": init}, "LoraConfig", HF4 | {"init_lora_weights": hf_init})
    inputs_48 = ("qkv", "proj", "fc1")
    adapted, model = ours(case, inputs_48), theirs(peft, case, inputs_48)
    drawn = [(own, other) for name, own, other in pairs(adapted, model) if name.endswith(".A")]
    bound = 48**-0.5
    for a in map(torch.cat, zip(*((x.flatten(), y.flatten()) for x, y in drawn), strict=True)):
        expected = bound / 3**0.5 if init == "kaiming" else 1 / 4
        assert a.std().item() == pytest.approx(expected, rel=0.05)
        assert (a.abs().max() <= bound) == (init == "kaiming")


@every_target
@every_case
def test_the_count_is_what_peft_trains(
    peft: ModuleType, case: Case, targets: tuple[str, ...]
) -> None:
    method, model = registry.method(case.method), theirs(peft, case, targets)
    expected = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert expected > 0
    found = method.count(method.Config(**case.settings, targets=targets), dims_of(base_vit()))
    assert found == expected
