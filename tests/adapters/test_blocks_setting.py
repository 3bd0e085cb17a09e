"""The setting `blocks`, for every method that has it: which blocks are adapted, and which are not."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.backbones._dims import dims_of
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.spec import from_plain, to_plain

NAMES = [
    n for n in registry.names("methods") if issubclass(registry.method(n).Config, ChosenBlocks)
]
FITTING: dict[str, dict[str, Any]] = {"miss": {"rank": 8}, "adamss": {"total_rank": 8}}
"""Settings in place of defaults that ask for a larger ViT."""
WHOLE = {"bitfit", "layernorm", "difffit", "ssf"}
"""Methods that also train something outside the blocks, unless blocks are chosen."""
KINDS: dict[str, dict[str, Any]] = {"plain": {}, "bare": {"qkv_bias": False, "qk_norm": True}}
every_method = pytest.mark.parametrize("name", NAMES)


@cache
def base_vit(kind: str) -> VisionTransformer:
    """A ViT of three blocks in float64, every tensor of it away from its usual start."""
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 24, "depth": 3, "num_heads": 3}
    vit = VisionTransformer(num_classes=5, **sizes | KINDS[kind])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return vit.double().eval()


def attach(name: str, kind: str = "plain", **settings: Any) -> Adapted:
    adapted = adapters.attach(
        copy.deepcopy(base_vit(kind)), name, **FITTING.get(name, {}) | settings
    )
    adapted.vit.double()
    return adapted


def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 28, 28, generator=generator, dtype=torch.float64)


@torch.no_grad()
def perturb(adapted: Adapted) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in adapted.adapter_parameters.values():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


def config(name: str, **settings: Any) -> Any:
    return registry.method(name).Config(**FITTING.get(name, {}) | settings)


def count(name: str, kind: str = "plain", **settings: Any) -> int:
    return registry.method(name).count(config(name, **settings), dims_of(base_vit(kind)))


def elements(adapted: Adapted) -> int:
    return sum(parameter.numel() for parameter in adapted.adapter_parameters.values())


@every_method
def test_only_what_lies_in_the_chosen_blocks_trains_or_is_shared(name: str) -> None:
    adapted = attach(name, blocks=[0, 2])
    shared = (f"{name}.", "norm.combine")  # of all blocks, and of vqt the class token's weight
    own = [path for path in adapted.adapter_parameters if not path.startswith(shared)]
    assert all(path.startswith(("blocks.0.", "blocks.2.")) for path in own)
    if own:
        assert {path.split(".")[1] for path in own} == {"0", "2"}
    else:
        assert name in ("fact_tk", "multi_layer_tucker")


@every_method
@torch.no_grad()
def test_another_block_computes_what_it_did_and_a_chosen_one_does_not(name: str) -> None:
    adapted, base = attach(name, blocks=[0]), base_vit("plain")
    perturb(adapted)
    x = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    chosen, other = adapted.vit.eval().blocks[:2]
    if name == "vqt":  # its blocks leave the stream alone and hand the sum of what was read on
        read = torch.ones(2, 24, dtype=torch.float64)
        assert torch.equal(other((x, read))[0], base.blocks[1](x))
        assert torch.equal(other((x, read))[1], read)
        assert not torch.equal(chosen((x, read))[1], read)
    else:
        assert torch.equal(other(x), base.blocks[1](x))
        assert not torch.allclose(chosen(x), base.blocks[0](x))


@every_method
def test_a_negative_index_counts_from_the_end(name: str) -> None:
    last, negative = attach(name, blocks=[2], seed=5), attach(name, blocks=[-1], seed=5)
    tensors = negative.adapter_parameters
    assert last.adapter_parameters.keys() == tensors.keys()
    assert all(torch.equal(p, tensors[n]) for n, p in last.adapter_parameters.items())
    assert count(name, blocks=(2,)) == count(name, blocks=(-1,))


@pytest.mark.parametrize("kind", KINDS)
@every_method
def test_the_closed_form_counts_the_chosen_blocks(name: str, kind: str) -> None:
    for blocks in ((1,), (0, -1), (0, 1, 2)):
        assert elements(attach(name, kind, blocks=blocks)) == count(name, kind, blocks=blocks)


@every_method
def test_all_blocks_spelled_out_are_the_default_but_for_what_lies_outside(name: str) -> None:
    default = set(attach(name).adapter_parameters)
    spelled = set(attach(name, blocks=[0, 1, 2]).adapter_parameters)
    inside = {path for path in default if path.startswith("blocks.")}
    assert spelled == (inside if name in WHOLE else default)
    assert (spelled < default) == (name in WHOLE)


@every_method
@torch.no_grad()
def test_the_start_is_as_near_to_the_base_as_declared(name: str) -> None:
    logits, base_logits = attach(name, blocks=[1]).vit.eval()(images()), base_vit("plain")(images())
    exact = registry.method(name).IDENTITY_AT_START == "exact"
    assert torch.equal(logits, base_logits) == exact


@every_method
def test_all_that_is_returned_gets_a_gradient(name: str) -> None:
    adapted = attach(name, blocks=[0, 2])
    perturb(adapted)
    torch.manual_seed(0)  # of dropout
    logits = adapted.vit.train()(images())
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    gradients = {n: p.grad for n, p in adapted.trainable_parameters.items()}
    assert [n for n, g in gradients.items() if g is None or not g.any()] == []


@pytest.mark.parametrize("name", [name for name in NAMES if registry.method(name).MERGEABLE])
@torch.no_grad()
def test_merged_equals_unmerged(name: str) -> None:
    adapted = attach(name, blocks=[0, 2])
    perturb(adapted)
    logits = adapted.vit.eval()(images())
    adapted.merge()
    torch.testing.assert_close(adapted.vit(images()), logits, rtol=1e-10, atol=1e-10)


@every_method
@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((3,), "blocks: 3 given for a ViT of 3 blocks, allowed: -3 to 2"),
        ((-4, 0), "blocks: -4 given for a ViT of 3 blocks, allowed: -3 to 2"),
        ((0, -3), "blocks: [0, -3] given for a ViT of 3 blocks, allowed: each block once"),
    ],
)
def test_blocks_that_the_vit_does_not_have_are_refused(
    name: str, blocks: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError) as refused:
        count(name, blocks=blocks)
    assert str(refused.value) == f"{name}: {message}"
    with pytest.raises(ValueError) as refused:
        attach(name, blocks=blocks)
    assert str(refused.value) == f"{name}: {message}"


@every_method
@pytest.mark.parametrize("blocks", [(), (1, 1), (True,), 1, ("all",), (0.5,)])
def test_what_is_no_list_of_different_integers_is_refused(name: str, blocks: Any) -> None:
    with pytest.raises(ValueError, match=r"^blocks: .* given, allowed: "):
        config(name, blocks=blocks)


@every_method
def test_the_order_of_blocks_changes_no_config_and_all_of_them_no_identity(name: str) -> None:
    assert config(name, blocks=(-1, 1, 0)) == config(name, blocks=(0, 1, -1)) != config(name)
    assert "blocks" not in to_plain(config(name))
    chosen = config(name, blocks=(1, -1))
    assert to_plain(chosen)["blocks"] == [1, -1]
    assert from_plain(type(chosen), to_plain(chosen)) == chosen
    defaults = {item.name: item.default for item in dataclasses.fields(chosen)}
    assert defaults["blocks"] is None


@pytest.mark.parametrize(
    ("name", "factor", "rows"),
    [("multi_layer_tucker", "E", [0, 2]), ("fact_tk", "P", [*range(12), *range(24, 36)])],
)
@torch.no_grad()
def test_a_chosen_block_takes_its_own_part_of_the_shared_tensors(
    name: str, factor: str, rows: list[int]
) -> None:
    """With the rows of two of three blocks, these two are changed as in the whole."""
    whole, chosen = attach(name), attach(name, blocks=[0, 2])
    perturb(whole)
    tensors = chosen.adapter_parameters
    for path, parameter in whole.adapter_parameters.items():
        if path == f"{name}.{factor}":
            tensors[path].copy_(parameter[rows] if factor == "E" else parameter[:, rows])
        else:
            tensors[path].copy_(parameter)
    for adapted in (whole, chosen):
        adapted.merge()
    deltas = []
    for block in (0, 2):
        weight = whole.vit.blocks[block].attn.qkv.weight
        assert torch.equal(chosen.vit.blocks[block].attn.qkv.weight, weight)
        deltas.append(weight - base_vit("plain").blocks[block].attn.qkv.weight)
    assert not torch.allclose(*deltas)


@torch.no_grad()
def test_vqt_reads_the_chosen_blocks_alone() -> None:
    """Queries whose weights are zero are as good as none."""
    whole, chosen = attach("vqt"), attach("vqt", blocks=[1])
    perturb(whole)
    tensors = whole.adapter_parameters
    for index in (0, 2):
        tensors[f"blocks.{index}.combine"].zero_()
    for path, parameter in chosen.adapter_parameters.items():
        parameter.copy_(tensors[path])
    logits = whole.vit.eval()(images())
    torch.testing.assert_close(chosen.vit.eval()(images()), logits, rtol=0, atol=1e-12)
