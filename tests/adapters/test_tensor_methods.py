"""The TLoRA family: golden deltas, structure, starts and first gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters import registry
from adapters.backbones._dims import dims_of
from adapters.method import LinearAdapter
from adapters.methods import cp, htftucker, httucker, multi_layer_tucker, tlora, tucker2, tucker3


def fill(k: int, *shape: int) -> Tensor:
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (((7 * n + 3 * k) % 11) - 5).reshape(shape) / 10


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def toy_qkv() -> nn.Linear:
    linear = nn.Linear(12, 36).double()
    linear.weight.data, linear.bias.data = fill(0, 36, 12), fill(41, 36)
    return linear


def multi_layer(rank: tuple[int, ...]) -> multi_layer_tucker.MultiLayerTucker:
    shared = multi_layer_tucker.MultiLayerTucker(blocks=3, width=12, rank=rank, generator=random())
    return shared.double()


def multi_layer_block(shared: multi_layer_tucker.MultiLayerTucker, block: int) -> LinearAdapter:
    return multi_layer_tucker.MultiLayerTuckerQkv(toy_qkv(), shared=shared, row=block)


MAKE = {  # on a Linear 12 -> 36 with three heads, for a rank of the right length
    "tlora": lambda rank: tlora.TloraQkv(toy_qkv(), rank=rank, generator=random()),
    "cp": lambda rank: cp.CpQkv(toy_qkv(), rank=rank, generator=random()),
    "tucker2": lambda rank: tucker2.Tucker2Qkv(toy_qkv(), rank=rank, generator=random()),
    "tucker3": lambda rank: tucker3.Tucker3Qkv(toy_qkv(), rank=rank, generator=random()),
    "httucker": lambda rank: httucker.HTTuckerQkv(
        toy_qkv(), heads=3, rank=rank, generator=random()
    ),
    "htftucker": lambda rank: htftucker.HTFTuckerQkv(
        toy_qkv(), heads=3, rank=rank, generator=random()
    ),
}


def delta(adapter: LinearAdapter) -> Tensor:
    base = toy_qkv()
    return adapter.merged(base)[0] - base.weight


# Method, block, rank, the tensors in the order of their fill; then the delta's sum, sum of squares
# and entries [0, 0], [13, 5], [35, 11], and the output's change at token 0, feature 0 and token 1,
# feature 17.
GOLDEN = [
    ("tlora", 2, "A0 B0 A1 B1 A2 B2", (-0.25, 9.9477, -0.17, -0.12, 0.08, -0.184, -0.185)),
    ("tucker2", 2, "G U V", (0.016, 2.105488, -0.02, -0.048, -0.028, -0.0529, -0.0563)),
    (
        "httucker",
        (2, 3, 4),
        "G0 M0 R0 K0 G1 M1 R1 K1 G2 M2 R2 K2",
        (0.0206, 1.506273, 0.0604, -0.0366, 0.0868, 0.06375, 0.01692),
    ),
    (
        "htftucker",
        (2, 3, 5, 4),
        "G P M R K",
        (0.03227, 0.866307, 0.04104, 0.13696, -0.01872, 0.050528, 0.086612),
    ),
]
GOLDEN_BLOCKS = [
    (0.0842, 0.514504, 0.04104, 0.0496, -0.00126, 0.015372, 0.023344),
    (0.07916, 0.784989, 0.0552, -0.04052, -0.03132, 0.034992, 0.057112),
    (-0.14357, 1.038089, -0.08244, -0.01921, 0.02475, -0.041616, -0.066178),
]


@torch.no_grad()
def check_golden(adapter: LinearAdapter, expected: tuple[float, ...]) -> None:
    base, x, d = toy_qkv(), fill(40, 1, 2, 12), delta(adapter)
    change = adapter(x, base) - base(x)
    found = [d.sum(), (d**2).sum(), d[0, 0], d[13, 5], d[35, 11], change[0, 0, 0], change[0, 1, 17]]
    assert [value.item() for value in found] == pytest.approx(expected, abs=6e-7)
    torch.testing.assert_close(change, x @ d.T)


@pytest.mark.parametrize(("name", "rank", "order", "expected"), GOLDEN)
def test_golden_deltas(name: str, rank: Any, order: str, expected: tuple[float, ...]) -> None:
    adapter = MAKE[name](rank).double()
    for k, (tensor, *part) in enumerate(order.split(), start=1):
        parameter = adapter.get_parameter(tensor).data
        own = parameter[int(part[0])] if part else parameter
        own.copy_(fill(k, *own.shape))
    check_golden(adapter, expected)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_golden_deltas_of_multi_layer_tucker(block: int) -> None:
    shared = multi_layer((2, 3, 5, 4))
    for k, tensor in enumerate("GEMRK", start=1):
        parameter = shared.get_parameter(tensor)
        parameter.data = fill(k, *parameter.shape)
    check_golden(multi_layer_block(shared, block), GOLDEN_BLOCKS[block])


ONES_12D = torch.ones(1, 2, 12, dtype=torch.float64)
"""The tokens of `fill` add up to zero in one feature, which would then have no gradient."""
POWERS = {"tlora": 1, "cp": 1, "tucker2": 2, "tucker3": 3, "httucker": 3, "htftucker": 4}


def ones(name: str, rank: int = 2) -> LinearAdapter:
    modes = POWERS[name]
    adapter = MAKE[name]((rank,) * modes if modes > 2 else rank).double()
    for parameter in adapter.parameters():
        parameter.data.fill_(1)
    return adapter


@pytest.mark.parametrize("name", POWERS)
def test_tensors_of_ones_give_a_power_of_the_rank_and_all_have_gradients(name: str) -> None:
    adapter = ones(name, rank=3)
    assert delta(adapter).unique().item() == pytest.approx(3.0 ** POWERS[name])
    adapter(ONES_12D, toy_qkv()).sum().backward()
    assert all(parameter.grad.all() for parameter in adapter.parameters())


def multi_layer_of_ones() -> multi_layer_tucker.MultiLayerTucker:
    shared = multi_layer((3,) * 4)
    for parameter in shared.parameters():
        parameter.data.fill_(1)
    return shared


def test_multi_layer_tucker_of_ones() -> None:
    shared = multi_layer_of_ones()
    for block in range(3):
        adapter = multi_layer_block(shared, block)
        assert delta(adapter).unique().item() == pytest.approx(81.0)
        adapter(ONES_12D, toy_qkv()).sum().backward()
    assert all(parameter.grad.all() for parameter in shared.parameters())


@torch.no_grad()
def test_a_zeroed_row_of_m_silences_one_head() -> None:
    adapter = ones("httucker")
    adapter.M[1, 2] = 0  # key, third head
    silent = delta(adapter).abs().sum(1) < 1e-12
    assert silent.nonzero().flatten().tolist() == [20, 21, 22, 23]
    adapter = ones("htftucker")
    adapter.M[1] = 0
    silent = delta(adapter).abs().sum(1) < 1e-12
    assert silent.nonzero().flatten().tolist() == [
        c * 12 + 4 + t for c in range(3) for t in range(4)
    ]


@torch.no_grad()
def test_a_zeroed_row_of_the_projection_or_block_factor_silences_it_alone() -> None:
    adapter = ones("htftucker")
    adapter.P[1] = 0
    shared = multi_layer_of_ones()
    shared.M[1] = 0
    for d in (delta(adapter), delta(multi_layer_block(shared, 0))):
        silent = d.abs().sum(1) < 1e-12
        assert silent.nonzero().flatten().tolist() == list(range(12, 24))
    shared = multi_layer_of_ones()
    shared.E[1] = 0
    silent_blocks = [not delta(multi_layer_block(shared, n)).abs().max() > 1e-12 for n in range(3)]
    assert silent_blocks == [False, True, False]


def small_vit(**settings: Any) -> VisionTransformer:
    torch.manual_seed(1)
    sizes = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 3, "num_heads": 3}
    return VisionTransformer(num_classes=5, **sizes | settings).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 28, 28, generator=random())


FIRST_GRADIENTS = {
    "tlora": ({"B"}, {"A"}),
    "tucker2": ({"G"}, {"U", "V"}),
    "httucker": ({"G"}, {"M", "R", "K"}),
    "htftucker": ({"G"}, {"P", "M", "R", "K"}),
    "multi_layer_tucker": ({"G"}, {"E", "M", "R", "K"}),
    "fact_tk": ({"V"}, {"U", "C", "P"}),
    "fact_tt": ({"V"}, {"U", "core"}),
    "qkv_full": ({"weight", "bias"}, set()),
}


@pytest.mark.parametrize("name", FIRST_GRADIENTS)
def test_the_first_backward_reaches_only_the_zero_factor(name: str) -> None:
    adapted = adapters.attach(small_vit(), name)
    adapted.vit(images()).square().sum().backward()
    moved, still = FIRST_GRADIENTS[name]
    for path, parameter in adapted.adapter_parameters.items():
        assert parameter.grad is not None, path  # zeros, not None: weight decay acts all the same
        own = path.rpartition(".")[2]
        assert own in moved | still
        assert bool(parameter.grad.any()) == (own in moved), path


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("tucker2", 4),
        ("httucker", (8, 4, 4)),
        ("htftucker", (8, 4, 4, 4)),
        ("multi_layer_tucker", (16, 4, 4, 4)),
    ],
)
def test_factors_start_orthogonal(name: str, rank: Any) -> None:
    vit = timm.create_model("vit_base_patch16_224", depth=2)
    adapted = adapters.attach(vit, name, rank=rank)
    spreads = {768: 0.036, 64: 0.125, 12: 0.29}
    for path, parameter in adapted.adapter_parameters.items():
        if path.endswith(".G"):
            assert not parameter.any()
            continue
        for factor in parameter.detach().reshape(-1, *parameter.shape[-2:]):
            wide = factor.shape[0] < factor.shape[1]
            gram = factor @ factor.T if wide else factor.T @ factor
            torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
            if len(factor) in spreads and factor.shape[1] == 4:
                rms = factor.square().mean().sqrt().item()
                assert rms == pytest.approx(spreads[len(factor)], rel=0.05)


def test_tlora_starts_random_at_the_output_side() -> None:
    adapter = tlora.TloraQkv(nn.Linear(768, 2304, device="meta"), rank=4, generator=random())
    assert not adapter.B.any()
    assert [a.std().item() for a in adapter.A] == pytest.approx([0.25] * 3, rel=0.05)


@pytest.mark.parametrize("name", ["httucker", "htftucker"])
def test_heads_that_do_not_divide_the_width_are_refused(name: str) -> None:
    vit = small_vit()
    for block in vit.blocks:
        block.attn.num_heads = 5
    with pytest.raises(
        ValueError, match=rf"^{name}: a ViT of width 24 with 5 heads given.*allowed"
    ):
        adapters.attach(vit, name)
    with pytest.raises(ValueError, match=rf"^{name}: .*5 heads"):
        registry.method(name).count(registry.method(name).Config(), dims_of(vit))
