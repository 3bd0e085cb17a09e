"""Deltas, first gradients and starts of methods against numbers and formulas of their sources.

The goldens were computed from the public implementations' formulas on a toy qkv Linear (12 -> 36)
whose weights, and each tensor in the listed order, hold `fill(k, shape)`.
"""

from __future__ import annotations

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters.method import LinearAdapter
from adapters.methods import cp, ia3, lora, tucker3, vera


def fill(k: int, *shape: int) -> Tensor:
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (((7 * n + 3 * k) % 11) - 5).reshape(shape) / 10


def filled(adapter: LinearAdapter, *names: str) -> LinearAdapter:
    """`adapter` in float64 with fill(1), fill(2), ... in its tensors `names`, in that order."""
    adapter.double()
    for k, name in enumerate(names, start=1):
        parameter = adapter.get_parameter(name)
        parameter.data = fill(k, *parameter.shape)
    return adapter


def qkv() -> nn.Linear:
    linear = nn.Linear(12, 36).double()
    linear.weight.data, linear.bias.data = fill(0, 36, 12), fill(41, 36)
    return linear


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def lora_fused(base: nn.Linear) -> LinearAdapter:
    config = lora.Config(rank=4, alpha=8)
    return filled(lora.LoraLinear(base, parts=(), config=config, generator=random()), "A", "B")


def vera_fused(base: nn.Linear) -> LinearAdapter:
    shared = vera.Projections(4, 24, 36, seed=0)  # wider than the Linear, as if fc2 were a target
    shared.A, shared.B = fill(3, 4, 24), fill(4, 36, 4)
    adapter = vera.VeraLinear(base, parts=(), config=vera.Config(rank=4), projections=shared)
    return filled(adapter, "lambda_b", "lambda_d")


def ia3_key_value(base: nn.Linear) -> LinearAdapter:
    adapter = ia3.OutputScale(base, parts=("k", "v")).double()
    adapter.scale.data = (1 + fill(1, 36))[12:].reshape(2, 12)
    return adapter


def cp_qkv(base: nn.Linear) -> LinearAdapter:
    return filled(cp.CpQkv(base, rank=2, generator=random()), "A", "B", "C")


def tucker3_qkv(base: nn.Linear) -> LinearAdapter:
    adapter = tucker3.Tucker3Qkv(base, rank=(2, 3, 4), generator=random())
    return filled(adapter, "G", "M", "R", "K")


# The delta's sum, sum of squares and entries [0, 0], [13, 5], [35, 11]; then the change of the
# output at token 0, feature 0 and token 1, feature 17.
GOLDEN = {
    cp_qkv: (0.012, 0.684998, -0.008, -0.012, 0.016, 0.0015, -0.0046),
    tucker3_qkv: (0.016, 2.166064, 0.0604, -0.0056, -0.1084, 0.0742, 0.05692),
    lora_fused: (0.24, 96.9888, -0.26, 0.44, -0.24, -1.23, -1.362),
    vera_fused: (0.06, 0.103931, -0.0048, 0.0039, 0.0036, -0.00042, 0.03148),
    ia3_key_value: (-0.36, 2.9056, 0.0, 0.0, -0.02, 0.0, 0.272),
}


@pytest.mark.parametrize("make", GOLDEN, ids=lambda make: make.__name__)
@torch.no_grad()
def test_golden_deltas(make) -> None:
    base = qkv()
    adapter = make(base)
    delta = adapter.merged(base)[0] - base.weight
    x = fill(40, 1, 2, 12)
    change = adapter(x, base) - base(x)
    found = [delta.sum(), (delta**2).sum(), delta[0, 0], delta[13, 5], delta[35, 11]]
    found += [change[0, 0, 0], change[0, 1, 17]]
    # The table has six decimals; the squares of VeRA's need a seventh.
    assert [value.item() for value in found] == pytest.approx(GOLDEN[make], abs=6e-7)


@pytest.mark.parametrize("stabilised", [False, True])
@torch.no_grad()
def test_lora_on_separate_projections_adapts_their_rows_alone(stabilised: bool) -> None:
    base = qkv()
    config = lora.Config(rank=4, alpha=6, rank_stabilised=stabilised)
    adapter = lora.LoraLinear(base, parts=("q", "v"), config=config, generator=random())
    filled(adapter, "A", "B")
    scale = 6 / 2 if stabilised else 6 / 4
    expected = torch.zeros(36, 12, dtype=torch.float64)
    expected[:12] = scale * adapter.B[0] @ adapter.A[0]
    expected[24:] = scale * adapter.B[1] @ adapter.A[1]
    torch.testing.assert_close(adapter.merged(base)[0] - base.weight, expected)
    x = fill(40, 1, 2, 12)
    torch.testing.assert_close(adapter(x, base) - base(x), x @ expected.T)


@torch.no_grad()
def test_vera_on_separate_projections_shares_the_rows_of_b() -> None:
    base = qkv()
    shared = vera.Projections(4, 12, 12, seed=0).double()
    adapter = vera.VeraLinear(
        base, parts=("q", "v"), config=vera.Config(rank=4), projections=shared
    )
    filled(adapter, "lambda_b", "lambda_d")
    expected = torch.zeros(36, 12, dtype=torch.float64)
    for part, start in enumerate((0, 24)):
        b_oR = torch.diag(adapter.lambda_b[part]) @ shared.B
        expected[start : start + 12] = b_oR @ torch.diag(adapter.lambda_d[part]) @ shared.A
    x = fill(40, 1, 2, 12)
    torch.testing.assert_close(adapter(x, base) - base(x), x @ expected.T)
    torch.testing.assert_close(adapter.merged(base)[0] - base.weight, expected)


@torch.no_grad()
def test_ia3_scales_the_input_of_fc2() -> None:
    base = qkv()
    adapter = filled(ia3.InputScale(base), "scale")
    x = fill(40, 1, 2, 12)
    expected = (x * fill(1, 12)) @ base.weight.T + base.bias
    torch.testing.assert_close(adapter(x, base), expected)


def test_dropout_acts_on_the_adapter_alone() -> None:
    base = qkv()
    config = lora.Config(rank=4, dropout=0.5)
    adapter = lora.LoraLinear(base, parts=(), config=config, generator=random()).double()
    x = fill(40, 1, 2, 12)
    torch.manual_seed(0)
    assert torch.equal(adapter.train()(x, base), base(x))  # B is zero, so only W x could differ
    filled(adapter, "A", "B")
    assert not torch.equal(adapter(x, base), adapter(x, base))
    assert torch.equal(adapter.eval()(x, base), adapter(x, base))


FIRST_GRADIENTS = {
    "lora": ({"B"}, {"A"}),
    "cp": ({"C"}, {"A", "B"}),
    "tucker3": ({"G"}, {"M", "R", "K"}),
    "vera": ({"lambda_b"}, {"lambda_d"}),
    "ia3": ({"scale"}, set()),
}


@pytest.mark.parametrize("name", FIRST_GRADIENTS)
def test_the_first_backward_reaches_only_the_zero_factor(name: str) -> None:
    vit = VisionTransformer(
        img_size=28, patch_size=14, embed_dim=24, depth=2, num_heads=3, num_classes=5
    )
    adapted = adapters.attach(vit, name)
    vit(torch.randn(2, 3, 28, 28, generator=random())).square().sum().backward()
    moved, still = FIRST_GRADIENTS[name]
    for path, parameter in adapted.adapter_parameters.items():
        assert parameter.grad is not None, path  # zeros, not None: weight decay acts all the same
        own = path.rpartition(".")[2]
        assert own in moved | still
        assert bool(parameter.grad.any()) == (own in moved), path


def vit_base_qkv() -> nn.Linear:
    return nn.Linear(768, 2304, device="meta")


def test_lora_starts_as_declared() -> None:
    def start(init: str) -> Tensor:
        config = lora.Config(rank=4, init=init)
        adapter = lora.LoraLinear(vit_base_qkv(), parts=(), config=config, generator=random())
        assert not adapter.B.any()
        return adapter.A.detach()

    kaiming, bound = start("kaiming"), 768**-0.5
    assert 0.99 * bound < kaiming.abs().max() <= bound
    assert kaiming.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert start("gaussian").std().item() == pytest.approx(0.25, rel=0.05)


def test_cp_starts_as_declared() -> None:
    adapter = cp.CpQkv(vit_base_qkv(), rank=4, generator=random())
    assert not adapter.C.any()
    assert adapter.A.std().item() == pytest.approx(0.5, rel=0.5)  # twelve numbers
    assert adapter.B.std().item() == pytest.approx(0.036, rel=0.05)


@pytest.mark.parametrize("rank", [(2, 4, 8), (8, 4, 4)])
def test_tucker3_starts_with_orthogonal_factors(rank: tuple[int, int, int]) -> None:
    adapter = tucker3.Tucker3Qkv(vit_base_qkv(), rank=rank, generator=random())
    assert not adapter.G.any()
    for factor in (adapter.M, adapter.R, adapter.K):
        tall = factor if factor.shape[0] >= factor.shape[1] else factor.T
        gram = tall.T @ tall
        torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
    assert adapter.R.std().item() == pytest.approx(0.036, rel=0.05)


def test_vera_starts_as_declared_and_shares_one_pair_of_matrices() -> None:
    def attach(**settings: object) -> adapters.Adapted:
        sizes = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 3}
        return adapters.attach(VisionTransformer(**sizes), "vera", rank=4, **settings)

    adapted = attach(targets=["q", "v", "fc2"], seed=1)
    a, b = adapted.adapter_buffers["vera.A"], adapted.adapter_buffers["vera.B"]
    assert (a.shape, b.shape) == ((4, 96), (24, 4))  # fc2 has 96 inputs, everything 24 outputs
    assert 0.9 * (6 / 96) ** 0.5 < a.abs().max() <= (6 / 96) ** 0.5
    assert 0.9 * (6 / 4) ** 0.5 < b.abs().max() <= (6 / 4) ** 0.5
    for name, parameter in adapted.adapter_parameters.items():
        assert parameter.unique().tolist() == pytest.approx([0.1 if "lambda_d" in name else 0.0])
    # The run's seed does not touch them, another model has its own, and the key decides.
    other = attach(targets=["q", "v", "fc2"], seed=2).adapter_buffers["vera.A"]
    assert torch.equal(a, other)
    assert a.data_ptr() != other.data_ptr()
    rekeyed = attach(targets=["q", "v", "fc2"], projection_seed=1).adapter_buffers["vera.A"]
    assert not torch.equal(a, rekeyed)


def test_ia3_scales_are_free_of_weight_decay() -> None:
    vit = VisionTransformer(img_size=28, patch_size=14, embed_dim=24, depth=1, num_heads=3)
    adapted = adapters.attach(vit, "ia3")
    assert adapted.no_decay == set(adapted.adapter_parameters)
    assert adapted.no_decay == {
        "blocks.0.attn.qkv.adapter.scale",
        "blocks.0.mlp.fc2.adapter.scale",
    }
