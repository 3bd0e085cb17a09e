"""`targets: all`, and a rank for each target of LoRA and DoRA, against dense formulas."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.anatomy import LINEARS
from adapters.backbones._dims import dims_of

WITH_TARGETS = [
    name
    for name in registry.names("methods")
    if "targets" in {item.name for item in dataclasses.fields(registry.method(name).Config)}
]
WHOLE = ("qkv", "proj", "fc1", "fc2")
WIDTH = 24
FITTING: dict[str, dict[str, Any]] = {"miss": {"rank": 8}}
"""Settings in place of defaults that ask for a larger ViT."""


def config(name: str, **settings: Any) -> Any:
    return registry.method(name).Config(**FITTING.get(name, {}) | settings)


@cache
def base_vit() -> VisionTransformer:
    vit = VisionTransformer(
        img_size=28, patch_size=14, embed_dim=WIDTH, depth=2, num_heads=3, num_classes=5
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return vit.double().eval()


def attach(name: str, **settings: Any) -> Adapted:
    adapted = adapters.attach(copy.deepcopy(base_vit()), name, **FITTING.get(name, {}) | settings)
    adapted.vit.double().eval()
    return adapted


def elements(adapted: Adapted) -> int:
    return sum(parameter.numel() for parameter in adapted.adapter_parameters.values())


def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 28, 28, generator=generator, dtype=torch.float64)


@torch.no_grad()
def perturb(adapted: Adapted) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in adapted.adapter_parameters.values():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def changes(adapted: Adapted) -> dict[str, Tensor]:
    """By how much merging changes each weight of the first block."""
    adapted.merge()
    merged = {
        name: adapted.vit.get_parameter(f"blocks.0.{path}.weight").detach().clone()
        for name, path in LINEARS.items()
    }
    adapted.unmerge()
    return {
        name: weight - base_vit().get_parameter(f"blocks.0.{LINEARS[name]}.weight").detach()
        for name, weight in merged.items()
    }


@pytest.mark.parametrize("name", WITH_TARGETS)
def test_all_is_the_list_of_whole_linears(name: str) -> None:
    assert config(name, targets="all") == config(name, targets=WHOLE)
    assert config(name, targets="all").targets == WHOLE
    adapted = attach(name, targets="all")
    dims = dims_of(base_vit())
    assert elements(adapted) == registry.method(name).count(config(name, targets="all"), dims)
    assert {path.split(".adapter.")[0] for path in adapted.adapter_parameters} == {
        f"blocks.{block}.{path}" for block in range(2) for path in LINEARS.values()
    }


@torch.no_grad()
def test_all_of_ia3_is_every_output_but_the_input_of_fc2() -> None:
    adapted = attach("ia3", targets="all")
    sizes = {n: p.numel() for n, p in adapted.adapter_parameters.items() if ".0." in n}
    assert sizes == {
        "blocks.0.attn.qkv.adapter.scale": 3 * WIDTH,
        "blocks.0.attn.proj.adapter.scale": WIDTH,
        "blocks.0.mlp.fc1.adapter.scale": 4 * WIDTH,
        "blocks.0.mlp.fc2.adapter.scale": 4 * WIDTH,
    }


@pytest.mark.parametrize("name", WITH_TARGETS)
@pytest.mark.parametrize("targets", ["qkv", "al", "ALL", ("all",), ("q", "all"), ()])
def test_another_word_than_all_is_refused_with_what_is_allowed(name: str, targets: Any) -> None:
    allowed = "allowed: a list of some of q, k, v, qkv, proj, fc1, fc2, or all$"
    with pytest.raises(ValueError, match=rf"^targets: .* given, {allowed}"):
        config(name, targets=targets)


def test_a_rank_stays_with_its_target_whatever_their_order() -> None:
    for name in ("lora", "dora"):
        listed = config(name, targets=("fc1", "q", "v"), rank=(5, 2, 3))
        assert (listed.targets, listed.rank) == (("q", "v", "fc1"), (2, 3, 5))
        assert listed == config(name, targets=("q", "v", "fc1"), rank=(2, 3, 5))
        assert config(name, targets="all", rank=(1, 2, 3, 4)).rank == (1, 2, 3, 4)


def test_equal_ranks_are_one_rank() -> None:
    assert config("lora", targets=("q", "v"), rank=(8, 8)) == config("lora", targets=("q", "v"))
    assert config("lora", rank=(8,)) == config("lora")


@pytest.mark.parametrize(
    ("rank", "says"),
    [
        ((4,), r"\[4\] given, allowed: .*one for each of the 2 targets \(q, fc1\)$"),
        ((4, 8, 2), r"\[4, 8, 2\] given, allowed: .*one for each of the 2 targets \(q, fc1\)$"),
        ((), r"\[\] given, allowed: .*one for each of the 2 targets"),
        ((4, 0), r"\(4, 0\) given, allowed: an integer of at least 1"),
        ((4, True), r"\(4, True\) given, allowed"),
        (0, r"0 given, allowed: an integer of at least 1"),
    ],
)
def test_ranks_that_do_not_fit_the_targets_are_refused(rank: Any, says: str) -> None:
    for name in ("lora", "dora"):
        with pytest.raises(ValueError, match=rf"^rank: {says}"):
            config(name, targets=("q", "fc1"), rank=rank)


RANKED: list[tuple[tuple[str, ...], tuple[int, ...]]] = [
    (("q", "v"), (2, 5)),
    (("q", "k", "v"), (3, 1, 2)),
    (("qkv", "fc2"), (2, 5)),
    (("k", "v", "proj", "fc1"), (1, 4, 3, 2)),
]


@pytest.mark.parametrize(("targets", "rank"), RANKED)
@pytest.mark.parametrize("stabilised", [False, True])
@torch.no_grad()
def test_a_target_changes_as_if_it_were_alone(
    targets: tuple[str, ...], rank: tuple[int, ...], stabilised: bool
) -> None:
    """The rows of A and the columns of B that are a target's, in a LoRA of this target only."""
    settings = {"alpha": 6.0, "rank_stabilised": stabilised}
    together = attach("lora", targets=targets, rank=rank, **settings)
    perturb(together)
    expected = {name: torch.zeros_like(change) for name, change in changes(together).items()}
    for target, r in zip(targets, rank, strict=True):
        alone = attach("lora", targets=[target], rank=r, **settings)
        linear = "qkv" if target in ("q", "k", "v") else target
        adapter = alone.vit.get_submodule(f"blocks.0.{LINEARS[linear]}.adapter")
        source = together.vit.get_submodule(f"blocks.0.{LINEARS[linear]}.adapter")
        on_qkv = [(t, n) for t, n in zip(targets, rank, strict=True) if t in ("q", "k", "v")]
        start = 0
        if target != linear:
            start = sum(n for t, n in on_qkv if "qkv".index(t) < "qkv".index(target))
        a_si, b_os = source.A.reshape(-1, WIDTH if linear != "fc2" else 4 * WIDTH), source.B
        b_os = b_os if b_os.dim() == 2 else b_os[0]
        adapter.A.copy_(a_si[start : start + r])
        adapter.B.copy_(b_os[:, start : start + r])
        expected[linear] += changes(alone)[linear]
    for name, change in changes(together).items():
        torch.testing.assert_close(change, expected[name], rtol=0, atol=1e-13)


@torch.no_grad()
def test_ranks_2_and_5_by_the_dense_formula() -> None:
    adapted = attach("lora", targets=("q", "v"), rank=(2, 5), alpha=10.0)
    perturb(adapted)
    adapter = adapted.vit.blocks[0].attn.qkv.adapter
    assert adapter.A.shape == (7, WIDTH)
    assert adapter.B.shape == (WIDTH, 7)
    delta = torch.zeros(3 * WIDTH, WIDTH, dtype=torch.float64)
    delta[:WIDTH] = 10 / 2 * adapter.B[:, :2] @ adapter.A[:2]
    delta[2 * WIDTH :] = 10 / 5 * adapter.B[:, 2:] @ adapter.A[2:]
    torch.testing.assert_close(changes(adapted)["qkv"], delta, rtol=0, atol=1e-13)
    x = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    qkv = adapted.vit.blocks[0].attn.qkv
    torch.testing.assert_close(qkv(x), qkv.base(x) + x @ delta.T, rtol=0, atol=1e-12)


@torch.no_grad()
def test_dora_with_a_rank_per_target_by_the_dense_formula() -> None:
    adapted = attach("dora", targets=("q", "v"), rank=(2, 5), alpha=10.0)
    perturb(adapted)
    qkv = adapted.vit.blocks[0].attn.qkv
    adapter, weight = qkv.adapter, qkv.base.weight.clone()
    for part, (rows, cut) in enumerate(
        [(slice(WIDTH), slice(2)), (slice(2 * WIDTH, None), slice(2, None))]
    ):
        scale = 10 / (2, 5)[part]
        direction = weight[rows] + scale * adapter.B[:, cut] @ adapter.A[cut]
        weight[rows] = (adapter.m[part] / direction.norm(dim=1)).unsqueeze(1) * direction
    torch.testing.assert_close(adapter.merged(qkv.base)[0], weight, rtol=0, atol=1e-12)
    x = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = torch.nn.functional.linear(x, weight, qkv.base.bias)
    torch.testing.assert_close(qkv(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["lora", "dora"])
@pytest.mark.parametrize(("targets", "rank"), RANKED)
def test_the_count_follows_each_rank(
    name: str, targets: tuple[str, ...], rank: tuple[int, ...]
) -> None:
    settings: dict[str, Any] = {"targets": targets, "rank": rank, "blocks": (1,)}
    counted = registry.method(name).count(config(name, **settings), dims_of(base_vit()))
    assert elements(attach(name, **settings)) == counted
    outputs = {"qkv": 3, "fc1": 4}
    inputs = {"fc2": 4}
    by_hand = sum(
        r * WIDTH * (inputs.get(target, 1) + outputs.get(target, 1))
        for target, r in zip(targets, rank, strict=True)
    )
    magnitudes = sum(WIDTH * outputs.get(target, 1) for target in targets)
    assert counted == by_hand + (magnitudes if name == "dora" else 0)


@pytest.mark.parametrize("name", ["lora", "dora"])
@torch.no_grad()
def test_a_rank_per_target_starts_as_the_base_and_merges(name: str) -> None:
    adapted = attach(name, targets=("q", "v", "fc1"), rank=(2, 5, 3))
    assert torch.equal(adapted.vit(images()), base_vit()(images()))
    perturb(adapted)
    logits = adapted.vit(images())
    adapted.merge()
    torch.testing.assert_close(adapted.vit(images()), logits, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_every_tensor_of_a_rank_per_target_gets_a_gradient_and_compiles(name: str) -> None:
    vit = VisionTransformer(
        img_size=28, patch_size=14, embed_dim=WIDTH, depth=1, num_heads=3, num_classes=5
    )
    adapted = adapters.attach(vit, name, targets=("q", "v"), rank=(2, 5))
    perturb(adapted)
    x = images().float()
    expected = vit.eval()(x)
    torch._dynamo.reset()
    logits = torch.compile(vit, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    logits.square().sum().backward()
    for path, parameter in adapted.adapter_parameters.items():
        assert parameter.grad is not None, path
        assert parameter.grad.reshape(len(parameter), -1).any(1).all(), path


def test_the_start_follows_each_rank() -> None:
    """Kaiming is bounded by the inputs alone; the gaussian has the deviation 1/rank of its target."""
    vit = VisionTransformer(img_size=28, patch_size=14, embed_dim=768, depth=1, num_heads=12)
    for init, spreads in (("kaiming", (768**-0.5 / 3**0.5,) * 2), ("gaussian", (1 / 2, 1 / 8))):
        adapted = adapters.attach(
            copy.deepcopy(vit), "lora", targets=("q", "v"), rank=(2, 8), init=init
        )
        drawn = adapted.adapter_parameters["blocks.0.attn.qkv.adapter.A"].detach()
        found = [drawn[:2].std().item(), drawn[2:].std().item()]
        assert found == pytest.approx(spreads, rel=0.05)
        if init == "kaiming":
            assert 0.99 * 768**-0.5 < drawn.abs().max() <= 768**-0.5
