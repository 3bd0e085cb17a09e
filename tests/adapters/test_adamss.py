"""AdaMSS against the golden of its specification, its construction step by step, and its counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import adapters
from adapters import registry
from adapters.backbones._dims import dims_of
from adapters.method import Dims
from adapters.methods import _subspaces, adamss


def fill(k, *shape):
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (((7 * n + 3 * k) % 11) - 5).reshape(shape) / 10


def vit(width=48, depth=2, heads=3, **sizes):
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "num_classes": 5} | sizes
    return VisionTransformer(embed_dim=width, depth=depth, num_heads=heads, **sizes).eval()


def adapter(*, parts=("q", "v"), base=None, **settings):
    """A Linear (12 -> 36) with a flat spectrum, and AdaMSS on it."""
    torch.manual_seed(1)
    base = base or nn.Linear(12, 36)
    settings = {"total_rank": 7, "subspaces": 3, "subspace_rank": 2} | settings
    return base, adamss.AdamssLinear(base, parts=parts, config=adamss.Config(**settings))


def rows_of(found):
    return [(found.groups == group).nonzero().flatten() for group in range(len(found.A))]


def trained(found, seed=3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return found


# --- the golden ---------------------------------------------------------------------------------

GOLDEN = [
    [0.024, 0.036, 0.048, 0.016, 0.028],
    [-0.006, -0.006, -0.039, 0.005, 0.005],
    [-0.036, 0.175, 0.045, -0.063, 0.148],
    [-0.036, -0.059, -0.027, -0.039, -0.062],
    [0.000, -0.002, 0.018, -0.006, -0.008],
    [0.000, -0.002, 0.018, -0.006, -0.008],
]


@pytest.fixture
def golden():
    """Six outputs, four inputs, groups {0, 1, 3, 4} and {2, 5}, taken over as a saved state."""
    base = nn.Linear(4, 6).double()
    config = adamss.Config(total_rank=3, subspaces=2, subspace_rank=2)
    found = adamss.AdamssLinear(base, parts=(), config=config).double()
    state = {"A.0": fill(2, 2, 3), "B.0": fill(3, 4, 2), "A.1": fill(4, 2, 3), "B.1": fill(5, 2, 2)}
    state |= {"basis": fill(1, 1, 3, 5), "groups": torch.tensor([0, 0, 1, 0, 0, 1])}
    found.load_state_dict(state)
    return base, found


def test_the_golden_delta_of_weight_and_bias(golden):
    base, found = golden
    weight, bias = found.merged(base)
    delta = torch.cat((weight - base.weight, (bias - base.bias).unsqueeze(1)), 1)
    assert torch.allclose(delta, torch.tensor(GOLDEN, dtype=torch.float64), atol=1e-12)


def test_the_golden_change_of_the_output(golden):
    base, found = golden
    x = torch.tensor([[[0.5, 0.1, -0.3, 0.4]]], dtype=torch.float64)
    change = (found(x, base) - base(x)).flatten().tolist()
    assert change == pytest.approx([0.0356, 0.0151, 0.1088, -0.0934, -0.016, -0.016], abs=1e-12)


# --- the construction ---------------------------------------------------------------------------


def test_the_basis_has_orthonormal_rows_that_span_the_leading_directions():
    base, found = adapter()
    hat = torch.cat((base.weight, base.bias.unsqueeze(1)), 1).detach()
    for basis, weight in zip(found.basis, (hat[:12], hat[24:]), strict=True):
        assert torch.allclose(basis @ basis.T, torch.eye(7), atol=1e-5)
        values = torch.linalg.svdvals(weight)
        left = torch.linalg.svdvals(weight - weight @ basis.T @ basis)
        assert torch.allclose(left[:5], values[7:], atol=1e-5), "what P leaves out is the tail"


def test_every_adapted_row_is_in_one_group_and_the_key_rows_in_none():
    _, found = adapter()
    assert found.groups[12:24].tolist() == [-1] * 12
    assert set(found.groups[:12].tolist()) == {0, 1, 2}
    assert set(found.groups[24:].tolist()) == {3, 4, 5}
    assert [len(rows) for rows in rows_of(found)] == [len(b) for b in found.B]


def test_a_starts_orthonormal_in_the_leading_directions_of_its_group_and_b_at_zero():
    base, found = adapter()
    hat = torch.cat((base.weight, base.bias.unsqueeze(1)), 1).detach()
    for group, rows in enumerate(rows_of(found)):
        a, b = found.A[group].detach(), found.B[group]
        assert torch.allclose(a @ a.T, torch.eye(len(a)), atol=1e-5)
        assert not b.any()
        # Coordinates of the rows in P, without their singular values.
        part = hat[:12] if group < 3 else hat[24:]
        coordinates = part @ found.basis[group // 3].T
        coordinates = (coordinates / coordinates.norm(dim=0))[rows - (0 if group < 3 else 24)]
        values = torch.linalg.svdvals(coordinates)
        kept = torch.linalg.svdvals(coordinates @ a.T)
        assert torch.allclose(kept, values[: len(a)], atol=1e-5)


def test_a_weight_without_a_bias_has_no_column_for_it():
    base, found = adapter(base=nn.Linear(12, 36, bias=False))
    assert found.basis.shape == (2, 7, 12)
    trained(found)
    weight, bias = found.merged(base)
    x = torch.randn(2, 3, 12)
    assert bias is None
    assert torch.allclose(found(x, base), nn.functional.linear(x, weight), atol=1e-5)


def test_more_ranks_and_groups_than_rows_are_as_many_as_there_are():
    _, found = adapter(total_rank=100, subspaces=50, subspace_rank=3)
    assert found.basis.shape == (2, 12, 13)
    assert [a.shape for a in found.A] == [(1, 12)] * 24
    assert [b.shape for b in found.B] == [(1, 1)] * 24


def test_a_group_with_fewer_rows_than_the_rank_has_a_lower_rank():
    _, found = adapter(subspaces=6, subspace_rank=3)
    sizes = [len(rows) for rows in rows_of(found)]
    assert min(sizes) < 3 <= max(sizes), "the case that this test is about"
    assert [len(a) for a in found.A] == [min(3, n) for n in sizes]
    assert [tuple(b.shape) for b in found.B] == [(n, min(3, n)) for n in sizes]


@pytest.mark.parametrize(
    ("rank", "threshold", "expected"), [(3, 0.1, 2), (3, 0.02, 3), (3, 0.5, 1), (2, 0.02, 2)]
)
def test_a_dynamic_rank_counts_squared_singular_values_above_the_threshold(
    rank, threshold, expected
):
    rows = torch.zeros(5, 6)
    rows[0, 4], rows[1, 2], rows[2, 0] = -3.0, 2.0, 0.5  # squares: 9, 4, 0.25
    a = _subspaces.directions(rows, rank, threshold)
    assert torch.allclose(a, torch.eye(6)[[4, 2, 0][:expected]], atol=1e-6)


def test_a_dynamic_rank_is_that_of_each_group():
    _, fixed = adapter(subspace_rank=3)
    _, dynamic = adapter(subspace_rank=3, dynamic_rank=0.6)
    ranks = [len(a) for a in dynamic.A]
    assert 1 in ranks
    for rank, a, b, whole in zip(ranks, dynamic.A, dynamic.B, fixed.A, strict=True):
        assert torch.equal(a, whole[:rank])
        assert b.shape[1] == rank


# --- k-means ------------------------------------------------------------------------------------


def points(count=200, groups=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=generator) + torch.randint(groups, (count, 1)) / 4


def test_k_means_is_that_of_scikit_learn_from_the_same_rows():
    cluster = pytest.importorskip("sklearn.cluster")
    torch.manual_seed(0)
    rows = points()
    generator = torch.Generator().manual_seed(_subspaces.PARTITION_SEED)
    first = rows[torch.randperm(200, generator=generator)[:6]]
    other = cluster.KMeans(6, init=first.numpy(), n_init=1, max_iter=10, tol=0).fit(rows.numpy())
    assert _subspaces.partition(rows, 6).tolist() == other.labels_.tolist()


def test_no_group_is_empty_even_where_all_rows_are_equal():
    rows = torch.ones(9, 4)
    assert torch.bincount(_subspaces.partition(rows, 5), minlength=5).min() == 1
    assert sorted(_subspaces.partition(rows, 9).tolist()) == list(range(9))


def test_groups_and_start_depend_on_the_weight_alone():
    first = adapters.attach(vit(), "adamss", seed=1, subspace_rank=3).vit.state_dict()
    torch.manual_seed(5)
    other_seed = adapters.attach(vit(), "adamss", seed=2, subspace_rank=3).vit.state_dict()
    assert all(torch.equal(first[name], other_seed[name]) for name in first)


def test_another_partition_seed_would_be_another_partition(monkeypatch):
    rows = points()
    before = _subspaces.partition(rows, 6)
    monkeypatch.setattr(_subspaces, "PARTITION_SEED", 1)
    assert not torch.equal(_subspaces.partition(rows, 6), before)


def test_a_saved_model_loads_where_k_means_ends_elsewhere(monkeypatch):
    images = torch.randn(2, 3, 28, 28)
    saved = adapters.attach(vit(), "adamss", subspace_rank=2)
    trained(saved.vit)
    monkeypatch.setattr(_subspaces, "PARTITION_SEED", 1)
    other = adapters.attach(vit(), "adamss", subspace_rank=2)
    shapes = [p.shape for p in saved.adapter_parameters.values()]
    parameters = list(other.adapter_parameters.values())
    assert shapes != [p.shape for p in parameters], "the case that this test is about"
    other.vit(images).sum().backward()
    other.vit.load_state_dict(saved.vit.state_dict())
    assert all(p.grad is None or p.grad.shape == p.shape for p in parameters)
    assert torch.equal(other.vit(images), saved.vit(images))
    assert [p.shape for p in parameters] == shapes, "the tensors stay those an optimiser may hold"


# --- the update ---------------------------------------------------------------------------------


def test_at_first_b_alone_has_a_gradient():
    base, found = adapter()
    found(torch.randn(2, 3, 12), base).square().sum().backward()
    assert all(a.grad is not None and not a.grad.any() for a in found.A)
    assert all(b.grad.any() for b in found.B)


def test_the_update_is_b_a_p_in_the_rows_of_each_group():
    base, found = adapter()
    trained(found)
    weight, bias = found.merged(base)
    delta = torch.cat((weight - base.weight, (bias - base.bias).unsqueeze(1)), 1)
    expected = torch.zeros(36, 13)
    for group, rows in enumerate(rows_of(found)):
        expected[rows] = found.B[group] @ found.A[group] @ found.basis[group // 3]
    assert torch.allclose(delta, expected, atol=1e-6)


def test_the_update_stays_in_the_row_space_of_the_basis():
    base, found = adapter(parts=())
    trained(found)
    weight, bias = found.merged(base)
    delta = torch.cat((weight - base.weight, (bias - base.bias).unsqueeze(1)), 1)
    (basis,) = found.basis
    assert torch.allclose(delta @ basis.T @ basis, delta, atol=1e-5)
    assert delta.abs().max() > 0.1


def test_the_bias_moves_with_the_first_step():
    base, found = adapter()
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1)
    found(torch.randn(2, 3, 12), base).square().sum().backward()
    optimizer.step()
    change = found.merged(base)[1] - base.bias
    assert change[:12].any()
    assert change[24:].any()
    assert not change[12:24].any()


def test_separate_projections_are_what_each_would_be_alone():
    base, both = adapter()
    _, query = adapter(parts=("q",), base=base)
    _, value = adapter(parts=("v",), base=base)
    assert torch.equal(both.basis, torch.cat((query.basis, value.basis)))
    assert torch.equal(both.groups[:12], query.groups[:12])
    assert torch.equal(both.groups[24:], value.groups[24:] + 3)


def test_no_tensor_of_the_weights_size_is_built_in_training():
    """Neither saved for the backward pass nor returned to it."""
    base, found = adapter(base=nn.Linear(64, 96), subspace_rank=1)
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    base.requires_grad_(False)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found(torch.randn(1, 2, 64, requires_grad=True), base)
    frozen = base.weight.numel()
    assert sum(size >= 64 * 64 for size in sizes) == sum(size == frozen for size in sizes) == 1


# --- counts -------------------------------------------------------------------------------------


def dims(width, depth=12):
    return Dims(
        width=width,
        depth=depth,
        heads=width // 64,
        mlp_width=4 * width,
        params=1,
        bias_params=1,
        norm_params=1,
        image_size=224,
        patch_size=16,
        prefix_tokens=1,
        block_norm_params=0,
        linear_biases=("qkv", "proj", "fc1", "fc2"),
    )


B, TI, LARGE = dims(768), dims(192), dims(1024, depth=24)
COUNTS = [
    (B, {}, 30_432),
    (B, {"subspaces": 10}, 42_432),
    (B, {"total_rank": 500}, 78_432),
    (B, {"subspaces": 5, "subspace_rank": 2}, 60_864),
    (B, {"subspaces": 5, "subspace_rank": 3}, 91_296),
    (B, {"subspaces": 10, "subspace_rank": 3}, 127_296),
    (B, {"subspaces": 10, "subspace_rank": 3, "targets": ("qkv",)}, 118_944),
    (TI, {"subspaces": 10}, 28_608),
    (TI, {}, 16_608),
    (TI, {"subspaces": 10, "subspace_rank": 3}, 85_824),
    (LARGE, {"subspaces": 10}, 97_152),
]


@pytest.mark.parametrize(("sizes", "settings", "expected"), COUNTS)
def test_published_counts(sizes, settings, expected):
    config = adamss.Config(**settings)
    assert registry.method("adamss").count(config, sizes) == expected
    assert registry.count_is_exact("adamss", config) == (config.subspace_rank == 1)


def test_a_method_that_says_nothing_counts_exactly():
    assert registry.count_is_exact("lora", registry.method("lora").Config())


@pytest.mark.parametrize("targets", [("q", "v"), ("qkv",), ("k", "proj", "fc1", "fc2")])
def test_with_rank_one_the_count_is_what_trains(targets):
    model = vit()
    config = adamss.Config(subspaces=7, targets=targets)
    found = adapters.attach(copy.deepcopy(model), "adamss", subspaces=7, targets=targets)
    elements = sum(p.numel() for p in found.adapter_parameters.values())
    assert elements == adamss.count(config, dims_of(model))


@pytest.mark.parametrize(("settings", "expected"), [({"subspaces": 10}, 28_608), ({}, 16_608)])
def test_what_trains_on_a_vit_tiny(settings, expected):
    found = adapters.attach(vit(width=192, depth=12), "adamss", **settings)
    assert sum(p.numel() for p in found.adapter_parameters.values()) == expected


def test_with_a_higher_rank_the_count_follows_from_the_groups():
    model = vit(width=192)
    settings = {"subspaces": 10, "subspace_rank": 3}
    bound = adamss.count(adamss.Config(**settings), dims_of(model))
    found = adapters.attach(model, "adamss", **settings)
    expected = 0
    for name, buffer in found.adapter_buffers.items():
        if name.endswith("groups"):
            sizes = torch.bincount(buffer[buffer >= 0]).tolist()
            expected += sum(min(3, n) * (100 + n) for n in sizes)
    assert sum(p.numel() for p in found.adapter_parameters.values()) == expected
    assert expected < bound, "some group has fewer than three rows"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"total_rank": 0}, "total_rank: 0 given, allowed: an integer of at least 1"),
        ({"subspaces": 0}, "subspaces: 0 given"),
        ({"subspace_rank": True}, "subspace_rank: True given"),
        ({"subspace_rank": 3, "total_rank": 2}, "subspace_rank: 3 given, allowed: at most total"),
        ({"subspace_rank": 3, "dynamic_rank": 1.0}, "dynamic_rank: 1.0 given, allowed: 0 < x < 1"),
        ({"subspace_rank": 3, "dynamic_rank": 0.0}, "dynamic_rank: 0.0 given"),
        ({"dynamic_rank": 0.1}, "dynamic_rank: 0.1 given with subspace_rank 1"),
        ({"targets": ("w",)}, "targets: 'w' given"),
        ({"asa": True}, "asa: True given, allowed: its settings, or null"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(ValueError) as error:
        adamss.Config(**settings)
    assert says in str(error.value)
