"""DoRA against its formula with dense weights, gradients included, and its counts."""

import pytest
import torch
from torch import nn

from adapters import registry
from adapters.methods import dora, lora

PARTS = [(), ("q", "v"), ("q", "k", "v")]


@pytest.fixture
def base():
    generator = torch.Generator().manual_seed(1)
    linear = nn.Linear(12, 36).double()
    for tensor in (linear.weight, linear.bias):
        tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return linear.requires_grad_(False)


def adapted(base, parts, *, trained=True, **settings):
    generator = torch.Generator().manual_seed(2)
    config = dora.Config(**{"rank": 3, "alpha": 6.0} | settings)
    adapter = dora.DoraLinear(base, parts=parts, config=config, generator=generator).double()
    if trained:
        for tensor in (adapter.B, adapter.m):
            tensor.data += torch.randn(tensor.shape, generator=generator, dtype=torch.float64) / 3
    return adapter


def dense(adapter, base, parts):
    """The weight by the paper's formula, row block by row block; the norm is detached."""
    weight = base.weight.clone()
    wanted = parts or ("all",)
    for index, part in enumerate(wanted):
        at = (
            slice(None)
            if part == "all"
            else slice(12 * "qkv".index(part), 12 * "qkv".index(part) + 12)
        )
        direction = base.weight[at] + 2.0 * adapter.B[index] @ adapter.A[index]
        norm = direction.norm(dim=1).detach()
        weight[at] = (adapter.m[index] / norm).unsqueeze(1) * direction
    return weight


@pytest.mark.parametrize("parts", PARTS)
def test_output_and_gradients_are_those_of_the_formula(base, parts):
    adapter = adapted(base, parts)
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = nn.functional.linear(x, dense(adapter, base, parts), base.bias)
    found = adapter(x, base)
    assert torch.allclose(found, expected, atol=1e-12)
    tensors = [adapter.A, adapter.B, adapter.m]
    ours = torch.autograd.grad(found.square().sum(), tensors)
    theirs = torch.autograd.grad(expected.square().sum(), tensors)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("parts", PARTS)
def test_the_merged_weight_is_that_of_the_formula(base, parts):
    adapter = adapted(base, parts)
    weight, bias = adapter.merged(base)
    assert torch.allclose(weight, dense(adapter, base, parts), atol=1e-12)
    assert bias is base.bias
    if parts == ("q", "v"):
        assert torch.equal(weight[12:24], base.weight[12:24])


def test_it_starts_as_the_base_to_the_last_bit(base):
    adapter = adapted(base, (), trained=False)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    assert torch.equal(adapter(x, base), base(x))
    assert torch.equal(adapter.m[0], base.weight.square().sum(1).sqrt())


def test_a_row_has_the_length_that_its_magnitude_says(base):
    adapter = adapted(base, ())
    weight, _ = adapter.merged(base)
    assert torch.allclose(weight.norm(dim=1), adapter.m[0].abs(), atol=1e-12)


def test_it_trains_a_magnitude_per_row_beside_lora():
    dims = registry.backbone("vit_tiny_fashion").INFO.dims
    for targets, rows in ((("qkv",), 480), (("q", "v"), 320), (("fc1", "fc2"), 800)):
        config = dora.Config(targets=targets)
        alone = lora.count(lora.Config(targets=targets), dims)
        assert dora.count(config, dims) == alone + 6 * rows
