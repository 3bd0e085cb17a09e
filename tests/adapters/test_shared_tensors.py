"""Tensors that all blocks share: one contraction a forward pass, right values on every path."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters.adapted import Adapted
from adapters.methods._shared import SharedTensors

SHARED = ["multi_layer_tucker", "fact_tk"]


def contractions(vit: nn.Module, name: str, monkeypatch: pytest.MonkeyPatch) -> list[slice]:
    """The arguments of every contraction from here on."""
    shared = vit.get_submodule(name)
    calls: list[slice] = []

    def counted(self: SharedTensors, blocks: slice) -> Any:
        calls.append(blocks)
        return contract(self, blocks)

    contract = type(shared).contract
    monkeypatch.setattr(type(shared), "contract", counted)
    return calls


@pytest.mark.parametrize("name", SHARED)
def test_a_forward_contracts_once_and_a_merged_one_never(
    name: str, monkeypatch: pytest.MonkeyPatch, perturbed: Callable[..., Adapted], images: Tensor
) -> None:
    adapted = perturbed(name)
    calls = contractions(adapted.vit, name, monkeypatch)
    for passes in (1, 2):  # gradients add up over both, so nothing may be kept from the first
        adapted.vit(images).sum().backward()
        assert calls == [slice(None)] * passes
    adapted.merge()
    calls.clear()
    adapted.vit(images)
    assert calls == []


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_blocks_called_one_by_one_give_the_same_gradients(
    name: str,
    reentrant: bool,
    monkeypatch: pytest.MonkeyPatch,
    perturbed: Callable[..., Adapted],
    images: Tensor,
) -> None:
    """As gradient checkpointing calls them, in the forward pass and again in the backward pass."""
    adapted = perturbed(name)
    parameters = adapted.trainable_parameters
    together = torch.autograd.grad(adapted.vit(images).sum(), parameters.values())
    checkpoint = partial(torch.utils.checkpoint.checkpoint, use_reentrant=reentrant)
    x = adapted.vit.patch_embed(images).requires_grad_()
    x = adapted.vit._pos_embed(x)
    for block in adapted.vit.blocks:
        x = checkpoint(block, x)
    adapted.vit.forward_head(adapted.vit.norm(x)).sum().backward()
    for expected, (path, parameter) in zip(together, parameters.items(), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5, msg=path)


@pytest.mark.parametrize("name", SHARED)
def test_nothing_contracted_outlives_a_pass_that_failed(
    name: str, perturbed: Callable[..., Adapted], images: Tensor
) -> None:
    adapted = perturbed(name)
    qkv = adapted.vit.blocks[1].attn.qkv

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = adapted.vit.blocks[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        adapted.vit(images)
    handle.remove()
    x = torch.randn(1, 2, 24, generator=torch.Generator().manual_seed(0))
    core = {"multi_layer_tucker": "G", "fact_tk": "C"}[name]
    with torch.no_grad():
        # Through `data`, which leaves the tensor's version as it is.
        adapted.vit.get_parameter(f"{name}.{core}").data.zero_()
        assert torch.equal(qkv(x), qkv.base(x))


@pytest.mark.parametrize("name", SHARED)
@torch.no_grad()
def test_every_vit_owns_its_shared_tensors(
    name: str,
    small_vit: Callable[..., VisionTransformer],
    perturbed: Callable[..., Adapted],
    images: Tensor,
) -> None:
    first = perturbed(name).vit
    expected = first(images)
    second = adapters.attach(small_vit(depth=2), name).vit.eval()
    copied = copy.deepcopy(first)
    for vit in (second, copied):
        for parameter in vit.get_submodule(name).parameters():
            parameter.fill_(0.5)
        assert not torch.equal(vit(images), expected)
    assert torch.equal(first(images), expected)
