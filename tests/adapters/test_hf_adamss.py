"""AdaMSS and ASA against Hugging Face PEFT's: same basis, groups and tensors, same numbers.

Basis, groups and tensors are PEFT's, loaded into ours as a saved model is: how the two come by them
differs (an exact SVD and our own k-means here), what is done with them does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.anatomy import path_of
from adapters.backbones._dims import dims_of
from adapters.methods._asa import Asa
from adapters.methods.adamss import AdamssLinear
from tests.adapters.vits import images, small_eva, small_vit

SIZES = {"total_rank": 12, "subspaces": 4, "subspace_rank": 2}
VITS = {
    "plain": (small_vit, ("qkv", "fc2")),
    "no_bias": (lambda: small_vit(qkv_bias=False), ("qkv",)),
    "split": (lambda: small_eva("eva_split"), ("q", "v")),
}
"""A ViT, and targets that are whole Linears in it: PEFT adapts no others."""
every_vit = pytest.mark.parametrize("vit", VITS)
LABELS = torch.tensor([0, 2, 4])


@pytest.fixture(scope="module")
def peft() -> ModuleType:
    """Importing it takes seconds: after collection, and only if a test here runs."""
    import peft

    return peft


def theirs(peft: ModuleType, vit: str, settings: dict[str, int], **more: Any) -> nn.Module:
    make, targets = VITS[vit]
    config = peft.AdamssConfig(
        r=settings["total_rank"],
        num_subspaces=settings["subspaces"],
        subspace_rank=settings["subspace_rank"],
        target_modules=[path_of(target) for target in targets],
        **more,
    )
    torch.manual_seed(0)
    model: nn.Module = peft.get_peft_model(make(), config)
    return model.eval()


def pairs(adapted: Adapted, model: nn.Module) -> Iterator[tuple[str, AdamssLinear, Any]]:
    """(path, ours, theirs) of every adapted Linear."""
    for path, module in adapted.vit.named_modules():
        if isinstance(module, AdamssLinear):
            place = path.removesuffix(".adapter")
            yield place, module, model.get_submodule(f"base_model.model.{place}")


def tensors(own: AdamssLinear, other: Any) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Every A and B of one Linear, ours and theirs."""
    yield from zip(own.A, other.adamss_A["default"], strict=True)
    yield from zip(own.B, other.adamss_B["default"], strict=True)


@torch.no_grad()
def ours_from(model: nn.Module, vit: str, settings: dict[str, int], **more: Any) -> Adapted:
    """Ours with PEFT's basis, groups and tensors, all moved away from where they start."""
    make, targets = VITS[vit]
    adapted = adapters.attach(make(), "adamss", targets=list(targets), **settings, **more)
    generator = torch.Generator().manual_seed(3)
    for path, own, other in pairs(adapted, model):
        for name in ("A", "B"):
            for tensor in getattr(other, f"adamss_{name}")["default"]:
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
        group_O = torch.full_like(own.groups, -1)
        for group, at in enumerate(other.train_subspace_index["default"]):
            group_O[other.seg_result["default"][at]] = group
        state = {"basis": other.adamss_newB["default"].unsqueeze(0), "groups": group_O}
        for name in ("A", "B"):
            for k, tensor in enumerate(getattr(other, f"adamss_{name}")["default"]):
                state[f"{name}.{k}"] = tensor
        prefixed = {f"{path}.adapter.{name}": tensor for name, tensor in state.items()}
        assert not adapted.vit.load_state_dict(prefixed, strict=False).unexpected_keys
    adapted.vit.eval()
    return adapted


def backward(vit: nn.Module, x: Tensor) -> None:
    vit.zero_grad()
    nn.functional.cross_entropy(vit(x), LABELS).backward()


@every_vit
@torch.no_grad()
def test_the_same_subspaces_give_the_same_logits(peft: ModuleType, vit: str) -> None:
    model = theirs(peft, vit, SIZES)
    adapted = ours_from(model, vit, SIZES)
    expected = model(images())
    assert (expected - VITS[vit][0]()(images())).abs().max() > 0.01
    torch.testing.assert_close(adapted.vit(images()), expected, rtol=1e-5, atol=1e-5)


@every_vit
@torch.no_grad()
def test_merging_gives_the_weights_that_peft_merges(peft: ModuleType, vit: str) -> None:
    model = theirs(peft, vit, SIZES)
    adapted = ours_from(model, vit, SIZES)
    adapted.merge()
    merged = model.merge_and_unload().state_dict()
    for name, tensor in adapted.vit.state_dict().items():
        torch.testing.assert_close(tensor, merged[name], rtol=1e-5, atol=1e-5, msg=name)


@every_vit
def test_the_same_subspaces_get_the_same_gradients(peft: ModuleType, vit: str) -> None:
    model = theirs(peft, vit, SIZES)
    adapted = ours_from(model, vit, SIZES)
    backward(adapted.vit, images())
    backward(model, images())
    for path, own, other in pairs(adapted, model):
        for mine, expected in tensors(own, other):
            assert mine.grad is not None
            assert expected.grad is not None
            assert expected.grad.abs().max() > 1e-6, path
            torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-5, atol=1e-5, msg=path)


@every_vit
@pytest.mark.parametrize("rank", [1, 2])
def test_as_much_trains_as_in_peft(peft: ModuleType, vit: str, rank: int) -> None:
    settings = SIZES | {"subspace_rank": rank}
    model = theirs(peft, vit, settings)
    expected = sum(p.numel() for p in model.parameters() if p.requires_grad)
    adapted = ours_from(model, vit, settings)
    assert sum(p.numel() for p in adapted.adapter_parameters.values()) == expected
    method, (make, targets) = registry.method("adamss"), VITS[vit]
    counted = method.count(method.Config(targets=targets, **settings), dims_of(make()))
    assert counted == expected if rank == 1 else counted >= expected


def chosen(peft: ModuleType, vit: str, target: int) -> tuple[list[bool], list[bool]]:
    """Which subspaces still train after the one mask of four steps: ours, theirs."""
    times = {"init_warmup": 0, "final_warmup": 3, "mask_interval": 3}
    hf = {"use_asa": True, "asa_target_subspaces": target, "asa_schedule_exponent": 1.5}
    model = theirs(peft, vit, SIZES, **hf, **times)
    asa = Asa(target_subspaces=min(target, 5), schedule_exponent=1.5, **times)
    adapted = ours_from(model, vit, SIZES, asa=asa)
    (hook,) = adapted.step_hooks.values()
    hook.before_run(4)
    for step in range(4):
        x = images() + step
        backward(adapted.vit, x)
        backward(model, x)
        hook.after_step(step)
        model.base_model.update_and_allocate(step)
    active: tuple[list[bool], list[bool]] = ([], [])
    for _, own, other in pairs(adapted, model):
        active[0].extend(p.requires_grad for p in own.A)
        active[1].extend(p.requires_grad for p in other.adamss_A["default"])
        assert [p.requires_grad for p in own.B] == [p.requires_grad for p in own.A]
    return active


@every_vit
def test_asa_freezes_the_subspaces_that_peft_freezes(peft: ModuleType, vit: str) -> None:
    """PEFT keeps one fewer than its target says: with a target of one more it keeps the same."""
    ours, expected = chosen(peft, vit, 6)
    assert sum(ours) == 5 < len(ours)
    assert ours == expected
    ours, fewer = chosen(peft, vit, 5)
    assert ours == expected
    assert sum(fewer) == 4
    assert all(mine for mine, theirs in zip(ours, fewer, strict=True) if theirs)
