"""MiSS against the goldens of its source, its formula written out, and the published counts."""

import math

import pytest
import torch
from torch import nn

from adapters import registry
from adapters.method import Dims
from adapters.methods import miss


def fill(k, *shape):
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (((7 * n + 3 * k) % 11) - 5).reshape(shape) / 10


@pytest.fixture
def qkv():
    linear = nn.Linear(12, 36).double()
    linear.weight.data, linear.bias.data = fill(0, 36, 12), fill(41, 36)
    return linear


def shard(base, *, parts=(), seed=None, **settings):
    adapter = miss.MissLinear(base, parts=parts, config=miss.Config(**settings)).double()
    if seed is None:
        adapter.D.data = fill(1, *adapter.D.shape)
    else:
        generator = torch.Generator().manual_seed(seed)
        adapter.D.data = torch.randn(adapter.D.shape, generator=generator, dtype=torch.float64)
    return adapter


# The delta's sum, sum of squares and entries [0, 0], [13, 5], [35, 11]; then the change of the
# output at token 0, feature 0 and token 1, feature 17, for x = fill(40, 1, 2, 12).
GOLDEN = [
    ({"rank": 4}, (-0.6, 43.02, -0.2, 0.0, -0.2, -0.29, 0.38)),
    ({"rank": 5}, (0.7, 43.13, -0.2, 0.1, 0.0, 0.06, -0.36)),
    ({"rank": 4, "mode": "mini", "mini_rank": 6}, (5.4, 44.82, -0.2, 0.3, 0.5, 0.18, -0.48)),
    ({"rank": 4, "mode": "bat"}, (0.19, 63.6143, 0.25, -0.66, 0.03, 0.325, 0.819)),
]


@pytest.mark.parametrize(("settings", "golden"), GOLDEN)
def test_the_goldens_of_the_source(qkv, settings, golden):
    adapter, x = shard(qkv, **settings), fill(40, 1, 2, 12)
    delta = adapter.merged(qkv)[0] - qkv.weight
    change = adapter(x, qkv) - qkv(x)
    found = (delta.sum(), delta.square().sum(), delta[0, 0], delta[13, 5], delta[35, 11])
    found += (change[0, 0, 0], change[0, 1, 17])
    assert [round(value.item(), 6) for value in found] == pytest.approx(list(golden), abs=1e-9)


@pytest.mark.parametrize("parts", [(), ("q", "v"), ("q", "k", "v")])
@pytest.mark.parametrize("settings", [settings for settings, _ in GOLDEN])
def test_the_output_is_that_of_the_changed_weight(qkv, settings, parts):
    adapter = shard(qkv, parts=parts, seed=3, **settings)
    x = fill(40, 2, 3, 12)
    weight, bias = adapter.merged(qkv)
    assert torch.allclose(adapter(x, qkv), nn.functional.linear(x, weight, bias), atol=1e-12)
    if parts == ("q", "v"):
        assert torch.equal(weight[12:24], qkv.weight[12:24]), "the key rows are not adapted"


def test_every_entry_follows_the_formula(qkv):
    for settings, m in (({"rank": 5}, 36), ({"rank": 4, "mode": "mini", "mini_rank": 6}, 6)):
        adapter = shard(qkv, seed=1, **settings)
        delta, r = adapter.merged(qkv)[0] - qkv.weight, settings["rank"]
        for o in range(36):
            for i in range(12):
                assert delta[o, i].item() == pytest.approx(adapter.D[0, i % r, o % m].item())


@pytest.mark.parametrize("mode", ["balance", "bat"])
def test_fused_and_separate_projections_are_the_same_method(qkv, mode):
    fused = shard(qkv, rank=4, mode=mode, seed=2)
    apart = shard(qkv, rank=4, mode=mode, parts=("q", "k", "v"))
    blocks = fused.D.data[0].chunk(3, dim=1 if mode == "balance" else 0)
    apart.D.data = torch.stack(blocks)
    assert torch.allclose(fused.merged(qkv)[0], apart.merged(qkv)[0], atol=1e-14)


DIMS = {
    name: Dims(
        width=width,
        depth=12,
        heads=heads,
        mlp_width=4 * width,
        params=1,
        bias_params=1,
        norm_params=1,
        block_norm_params=1,
        linear_biases=(),
        image_size=224,
        patch_size=16,
        prefix_tokens=1,
    )
    for name, width, heads in (("Ti", 192, 3), ("B", 768, 12))
}
MINI = {"mode": "mini", "mini_rank": 8}
COUNTS = [
    ("B", {}, (221_184, 442_368, 884_736, 1_769_472)),
    ("Ti", {}, (55_296, 110_592, 221_184, 442_368)),
    ("B", {"mode": "bat"}, (221_184, 442_368, 884_736, 1_769_472)),
    ("B", {"targets": ("q", "v")}, (147_456, 294_912, 589_824, 1_179_648)),
    ("Ti", {"targets": ("q", "v")}, (36_864, 73_728, 147_456, 294_912)),
    ("B", MINI, (768, 1_536, 3_072, 6_144)),
    ("Ti", MINI, (768, 1_536, 3_072, 6_144)),
    ("B", {"mode": "mini", "mini_rank": 64}, (6_144, 12_288, 24_576, 49_152)),
    ("B", MINI | {"targets": ("q", "v")}, (1_536, 3_072, 6_144, 12_288)),
]


@pytest.mark.parametrize(("vit", "settings", "expected"), COUNTS)
def test_published_counts(vit, settings, expected):
    method = registry.method("miss")
    counts = [method.count(miss.Config(rank=r, **settings), DIMS[vit]) for r in (8, 16, 32, 64)]
    assert tuple(counts) == expected


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rank": 193}, "rank: 193 given, allowed: at most the inputs"),
        ({"rank": 7, "mode": "bat"}, "rank: 7 given with mode bat"),
        ({"rank": 8, "mode": "mini", "mini_rank": 7}, "mini_rank: 7 given"),
        ({"mini_rank": 4}, "mini_rank: 4 given with mode balance"),
        ({"mode": "bat", "dropout": 0.1}, "dropout: 0.1 given with mode bat"),
        ({"mode": "batt"}, "mode: 'batt' given, allowed: balance, mini, bat"),
        ({"mode": "mini", "mini_rank": 0}, "mini_rank: 0 given"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings, says):
    with pytest.raises(ValueError, match=says):
        miss.count(miss.Config(**settings), DIMS["Ti"])
