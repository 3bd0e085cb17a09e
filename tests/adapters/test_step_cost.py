"""A training step costs no more than it must: exact counts on small ViTs, no clock.

A ViT of wide blocks and few tokens: there a factored update is far cheaper than a delta of the
weight's size, and no activation is as large as a weight.

Shapes: d width, L blocks, T tokens of all images, r rank.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import adapters

D, L, H, R = 48, 2, 3, 4
TOKENS = 5  # of one image: four patches and the class token
E = D // H
APART = {"targets": ("q", "v")}
ALL = {"targets": ("qkv", "proj", "fc1", "fc2")}


def plain_vit() -> VisionTransformer:
    torch.manual_seed(1)
    sizes = {"img_size": 28, "patch_size": 14, "embed_dim": D, "depth": L, "num_heads": H}
    return VisionTransformer(num_classes=5, **sizes).train()


def small_vit(name: str, **settings: Any) -> VisionTransformer:
    vit = plain_vit()
    adapters.attach(vit, name, **settings)
    return vit


def forward(vit: nn.Module, images: int = 1) -> Tensor:
    """The blocks' output; a backward pass goes back to the input of the first."""
    tokens = torch.randn(images, TOKENS, D, generator=torch.Generator().manual_seed(2))
    out: Tensor = vit.get_submodule("blocks")(tokens.requires_grad_())
    return out


def flops(vit: nn.Module, *, images: int = 1, backward: bool = False) -> int:
    with FlopCounterMode(display=False) as counter:
        out = forward(vit, images)
        if backward:
            out.sum().backward()
    return int(counter.get_total_flops())


def extra(name: str, settings: dict[str, Any], **how: Any) -> int:
    """What a method adds to the frozen blocks."""
    return flops(small_vit(name, **settings), **how) - flops(
        plain_vit().requires_grad_(False), **how
    )


def product(*sizes: int) -> int:
    """A matrix product's multiplications and additions."""
    return 2 * torch.Size(sizes).numel()


def linears(*sizes: tuple[int, int]) -> int:
    """Down to rank R and up, for each (in, out)."""
    return sum(product(TOKENS, i, R) + product(TOKENS, R, o) for i, o in sizes)


def fact(core: int) -> int:
    """U, core and V of all Linears of a block, as P x Q tiles of d x d; `core` for the cores."""
    tiles = ((3, 1), (1, 1), (4, 1), (1, 4))
    through = sum(
        product(TOKENS * q, D, R) + product(TOKENS, q * R, p * R) + product(TOKENS * p, R, D)
        for p, q in tiles
    )
    return L * through + core


class Factored(NamedTuple):
    """A method, and the matrix products that its factors ask for in a forward pass of one image."""

    name: str
    settings: dict[str, Any]
    needed: int
    constant: int = 0
    """And those through which no gradient flows."""


QKV = (D, 3 * D)
BLOCK = (QKV, (D, D), (D, 4 * D), (4 * D, D))
SHARED_DOWN = linears(QKV)
OWN_DOWN = 3 * linears((D, D))
RANK = {"rank": R}
NO_DROPOUT = RANK | {"dropout": 0.0}
FACTORED = [
    Factored("lora", RANK, L * SHARED_DOWN),
    Factored("lora", RANK | APART, L * 2 * linears((D, D))),
    Factored("lora", RANK | ALL, L * linears(*BLOCK)),
    Factored("tlora", RANK, L * OWN_DOWN),
    Factored("cp", RANK, L * SHARED_DOWN),
    Factored("tucker2", RANK, L * (3 * product(D, R, R) + SHARED_DOWN)),
    Factored("tucker3", RANK, L * (product(3, R, R * R) + 3 * product(D, R, R) + SHARED_DOWN)),
    Factored(
        "httucker", RANK, L * (3 * product(H, R, R * R) + 3 * H * product(E, R, R) + OWN_DOWN)
    ),
    Factored(
        "htftucker",
        RANK,
        L * (product(3, R, R**3) + 3 * product(H, R, R * R) + 3 * H * product(E, R, R))
        + L * SHARED_DOWN,
    ),
    Factored(
        "multi_layer_tucker",
        RANK,
        product(L, R, R**3) + L * (product(3, R, R * R) + 3 * product(D, R, R) + SHARED_DOWN),
    ),
    Factored("fact_tk", NO_DROPOUT, fact(product(R * R, R, 12 * L))),
    Factored("fact_tt", NO_DROPOUT, fact(0)),
    Factored("vera", RANK, L * SHARED_DOWN),
    Factored("vera", RANK | APART, L * (product(TOKENS, D, R) + 2 * product(TOKENS, R, D))),
    # Its norm multiplies the weight by A, which is as much as B A would be, but keeps nothing as large.
    Factored(
        "dora",
        RANK,
        L * SHARED_DOWN,
        L * (product(3 * D, D, R) + product(R, D, R) + product(3 * D, R, R)),
    ),
    # The groups of inputs are added up, which is no product.
    Factored("miss", RANK, L * product(TOKENS, R, 3 * D)),
    Factored("ia3", {}, 0),
    Factored("ssf", {}, 0),
    Factored("difffit", {}, 0),
]
each = pytest.mark.parametrize(
    "case", FACTORED, ids=lambda case: "-".join([case.name, *case.settings.get("targets", ())])
)


@each
def test_a_forward_multiplies_by_the_factors_alone(case: Factored) -> None:
    assert extra(case.name, case.settings) <= case.needed + case.constant
    dense = L * 3 * product(D, R, D)  # a delta of the size of qkv, from two factors
    assert case.needed < dense


@each
def test_a_step_costs_three_such_forwards(case: Factored) -> None:
    """The backward pass multiplies for the input and for the factors, not for frozen weights."""
    step = extra(case.name, case.settings, backward=True)
    assert step <= 3 * case.needed + case.constant


class WeightSized(TorchDispatchMode):
    """Lists the operations that make a tensor as large as a d x d weight."""

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        tensors = itertools.chain(vit.parameters(), vit.buffers())
        self.own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            is_large = isinstance(tensor, Tensor) and tensor.numel() >= D * D
            if is_large and tensor.untyped_storage().data_ptr() not in self.own:
                self.found.append(f"{func}: {tuple(tensor.shape)}")
        return out


@each
def test_nothing_of_a_weights_size_is_built(case: Factored) -> None:
    vit = small_vit(case.name, **case.settings)
    with WeightSized(vit) as built:
        forward(vit)
    assert not built.found


def test_what_is_of_a_weights_size_is_seen() -> None:
    vit = small_vit("miss", rank=R, mode="bat")
    with WeightSized(vit) as built:
        forward(vit)
    assert built.found


@pytest.mark.parametrize("images", [1, 4])
def test_bat_builds_each_weight_once_a_forward(images: int) -> None:
    """Whatever the batch: (W + I) D, tile by tile, is one product of (out in / r) x r by r."""
    built = L * product(3 * D, D, R)
    assert extra("miss", RANK | {"mode": "bat"}, images=images) == built


@pytest.mark.parametrize("images", [1, 4])
def test_bat_builds_no_weight_in_the_backward(images: int) -> None:
    """There it multiplies for the weight's gradient and from that for the shard's."""
    built, weights = L * product(3 * D, D, R), L * product(images * TOKENS, D, 3 * D)
    step = extra("miss", RANK | {"mode": "bat"}, images=images, backward=True)
    assert step == built + weights + built
