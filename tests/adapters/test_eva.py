"""ViTs of timm's Eva family: targets on split projections and gated MLPs, against their fused twins."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import adapters
from adapters import fitting, registry
from adapters.adapted import Adapted
from adapters.anatomy import Anatomy, UnfitError
from adapters.backbones._dims import dims_of
from adapters.hf_peft import hf_folder
from tests.adapters.vits import EVAS, images, perturb, small_eva


def twins() -> tuple[nn.Module, nn.Module]:
    """The same Eva twice: with a fused qkv, and with three Linears."""
    fused, split = small_eva("eva_fused"), small_eva("eva_fused", qkv_fused=False)
    state = fused.state_dict()
    for name in [name for name in state if ".attn.qkv." in name]:
        for projection, rows in zip("qkv", state.pop(name).chunk(3), strict=True):
            state[name.replace("qkv", f"{projection}_proj")] = rows
    split.load_state_dict(state)
    return fused, split


@torch.no_grad()
def logits(vit: nn.Module) -> Tensor:
    out: Tensor = vit.eval()(images())
    return out


SAME: dict[str, dict[str, Any]] = {
    "cp": {},
    "dora": {"targets": ("q", "v", "fc1")},
    "htftucker": {},
    "httucker": {},
    "ia3": {"targets": ("k", "v", "fc2")},
    "lora": {"targets": ("q", "k", "v", "fc2"), "rank": (2, 3, 2, 4)},
    "miss": {"targets": ("k", "proj"), "rank": 8},
    "multi_layer_tucker": {},
    "repadapter": {},
    "ssf": {},
    "tlora": {},
    "tucker2": {},
    "tucker3": {},
    "vera": {"targets": ("q", "k", "v"), "rank": 8},
}
"""Methods that mean the same on a fused qkv as on three Linears, with settings for which they do."""


@pytest.mark.parametrize("name", SAME)
def test_it_trains_as_much_as_on_the_fused_twin_and_can_do_the_same(name: str) -> None:
    fused, split = twins()
    torch.testing.assert_close(logits(split), logits(fused), rtol=1e-5, atol=1e-5)
    first = adapters.attach(fused, name, **SAME[name])
    second = adapters.attach(split, name, **SAME[name])
    sizes = [
        sum(parameter.numel() for parameter in adapted.adapter_parameters.values())
        for adapted in (first, second)
    ]
    assert sizes[0] == sizes[1]
    _give_both_the_same(first, second)
    assert (logits(first.vit) - logits(twins()[0])).abs().max() > 1e-3
    torch.testing.assert_close(logits(second.vit), logits(first.vit), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def _give_both_the_same(fused: Adapted, split: Adapted) -> None:
    """Numbers for the fused twin, and the same, projection by projection, for the other."""
    perturb(fused)
    theirs = split.trainable_parameters
    for name, own in fused.trainable_parameters.items():
        if name in theirs:
            theirs[name].copy_(own)
        elif name.replace("qkv.adapter", "q_proj.adapter.shared") in theirs:
            theirs[name.replace("qkv.adapter", "q_proj.adapter.shared")].copy_(own)
        else:
            _spread(name, own, theirs, fused.vit.get_submodule(name.rpartition(".")[0]))


def _spread(name: str, own: Tensor, theirs: dict[str, nn.Parameter], adapter: Any) -> None:
    """Give the row blocks of a tensor of the fused qkv to the Linears that stand for them."""
    path, _, tensor = name.partition("qkv.adapter.")
    parts = [p for p in "qkv" if f"{path}{p}_proj.adapter.{tensor}" in theirs]
    pieces: tuple[Tensor, ...] = own.chunk(len(parts))
    if getattr(adapter, "ranks", None) and len(set(adapter.ranks)) > 1:
        pieces = own.split(adapter.ranks, dim=1 if tensor == "B" else 0)
    for part, piece in zip(parts, pieces, strict=True):
        other = theirs[f"{path}{part}_proj.adapter.{tensor}"]
        other.copy_(piece.reshape(other.shape))


def built(adapted: Adapted) -> int:
    return sum(parameter.numel() for parameter in adapted.adapter_parameters.values())


def places(adapted: Adapted) -> list[str]:
    return [path.removeprefix("blocks.0.") for path in adapted.layers() if "blocks.0." in path]


QKV = ["attn.q_proj", "attn.k_proj", "attn.v_proj"]
MLP = ["mlp.fc1_g", "mlp.fc1_x"]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("qkv",), QKV),
        (("v", "q"), ["attn.q_proj", "attn.v_proj"]),
        (("k", "fc1"), ["attn.k_proj", *MLP]),
        ("all", [*QKV, "attn.proj", *MLP, "mlp.fc2"]),
    ],
)
@pytest.mark.parametrize("name", ["adamss", "dora", "ia3", "lora", "miss", "vera"])
def test_targets_find_the_linears_that_stand_for_them(
    name: str, targets: Any, expected: list[str]
) -> None:
    settings = {"adamss": {"total_rank": 16}, "miss": {"rank": 8}}.get(name, {})
    vit = small_eva("eva_split")
    adapted = adapters.attach(vit, name, targets=targets, **settings)
    assert places(adapted) == expected
    method = registry.method(name)
    assert built(adapted) == method.count(
        method.Config(targets=targets, **settings), dims_of(small_eva("eva_split"))
    )


def test_each_target_of_lora_keeps_its_rank_on_all_linears_that_stand_for_it() -> None:
    adapted = adapters.attach(
        small_eva("eva_split"), "lora", targets=["fc1", "qkv"], rank=[2, 5], blocks=[1]
    )
    ranks = {name: len(p[0]) for name, p in adapted.adapter_parameters.items() if ".A" in name}
    assert list(ranks.values()) == [5, 5, 5, 2, 2]
    # 5 (48 + 48) for q, k, v, and 2 (48 + 128) for gate and gated.
    assert built(adapted) == 3 * 5 * 96 + 2 * 2 * 176


@pytest.mark.parametrize("name", ["lora", "cp", "repadapter", "adaptformer", "vpt_deep"])
@torch.no_grad()
def test_disabling_and_removing_bring_the_plain_eva_back(name: str) -> None:
    vit = small_eva("eva_split")
    plain, state = logits(vit), {n: t.clone() for n, t in vit.state_dict().items()}
    adapted = adapters.attach(vit, name)
    perturb(adapted)
    adapted_logits = logits(vit)
    assert not torch.equal(adapted_logits, plain)
    with adapted.disabled():
        assert torch.equal(logits(vit), plain)
    assert torch.equal(logits(vit), adapted_logits)
    adapted.remove("default")
    assert torch.equal(logits(vit), plain)
    assert vit.state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    "parts", [("lora", "ssf"), ("cp", "tucker2"), ("adaptformer", "repadapter")]
)
def test_a_combination_trains_counts_saves_and_loads_on_an_eva(
    parts: tuple[str, ...], tmp_path: Any
) -> None:
    adapted = adapters.attach(small_eva("eva_split"), [{"name": name} for name in parts])
    method = registry.method("+".join(parts))
    assert built(adapted) == method.count(method.Config(), dims_of(small_eva("eva_split")))
    perturb(adapted)
    adapted.save(tmp_path / "saved.safetensors")
    again = adapters.load(small_eva("eva_split"), tmp_path / "saved.safetensors")
    assert torch.equal(logits(again.vit), logits(adapted.vit))


@pytest.mark.parametrize("name", ["vpt_deep", "vpt_shallow"])
@torch.no_grad()
def test_prompts_leave_the_rotation_of_the_patches_as_it_is(name: str) -> None:
    adapted = adapters.attach(small_eva("eva_mixed", depth=3), name, prompts=2, dropout=0.0)
    seen = []
    for block in adapted.vit.get_submodule("blocks").children():
        attention: Any = block.attn

        def note(module: Any, inputs: tuple[Tensor], *_: Any) -> None:
            seen.append((inputs[0].shape[1], module.num_prefix_tokens))

        attention.register_forward_pre_hook(note)
    logits(adapted.vit)
    # 16 patches, a class token and two prompts.
    assert seen == [(19, 3)] * 3
    adapted.remove("default")
    assert {block.attn.num_prefix_tokens for block in adapted.vit.blocks} == {1}


@pytest.mark.parametrize("name", ["lora", "dora", "vera", "ia3", "miss"])
@torch.no_grad()
def test_hf_peft_loads_an_adapter_of_a_split_eva(name: str, tmp_path: Any) -> None:
    import peft

    settings: dict[str, Any] = {"targets": ("q", "v", "fc1", "fc2")}
    settings |= {"miss": {"rank": 8}, "vera": {"rank": 8}}.get(name, {})
    adapted = adapters.attach(small_eva("eva_split"), name, **settings)
    perturb(adapted)
    config = registry.method(name).Config(**settings)
    for file, content in hf_folder(adapted.vit, name, config).items():
        (tmp_path / file).write_bytes(content)
    model = peft.PeftModel.from_pretrained(small_eva("eva_split"), tmp_path)
    assert (logits(adapted.vit) - logits(small_eva("eva_split"))).abs().max() > 1e-3
    torch.testing.assert_close(logits(model), logits(adapted.vit), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", EVAS)
def test_the_vit_that_plans_try_methods_on_is_built_like_the_real_one(kind: str) -> None:
    dims = dims_of(small_eva(kind))
    found = dims_of(fitting._skeleton(dims))
    for field in ("anatomy", "width", "depth", "heads", "mlp_width", "linear_biases"):
        assert getattr(found, field) == getattr(dims, field), field
    assert found.prefix_tokens == dims.prefix_tokens


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("eva_split", Anatomy(family="eva", attention="split", mlp="gated")),
        ("eva_beside", Anatomy(family="eva", attention="beside", mlp="packed")),
        ("eva_fused", Anatomy(family="eva")),
    ],
)
def test_anatomies_are_read_off_the_model(kind: str, expected: Anatomy) -> None:
    assert dims_of(small_eva(kind)).anatomy == expected


@pytest.mark.parametrize("name", ["beit_base_patch16_224", EVAS["eva_beside"]])
def test_a_qkv_that_timm_never_calls_is_refused_and_the_rest_of_the_block_is_not(name: str) -> None:
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 48, "depth": 1, "num_heads": 3}
    vit = timm.create_model(name, num_classes=5, **sizes)
    for targets in (["qkv"], ["q", "v"]):
        with pytest.raises(UnfitError, match=r"lora: the fused qkv .* allowed: proj, fc1 and fc2"):
            adapters.attach(copy.deepcopy(vit), "lora", targets=targets)
    plain = logits(vit)
    adapted = adapters.attach(vit, "lora", targets=["proj", "fc1", "fc2"])
    perturb(adapted)
    assert not torch.equal(logits(vit), plain)


def test_biases_apart_from_their_linear_train_with_it() -> None:
    adapted = adapters.attach(small_eva("eva_beside"), "qkv_full", blocks=[0])
    assert list(adapted.adapter_parameters) == [
        f"blocks.0.attn.{name}" for name in ("qkv.weight", "q_bias", "v_bias")
    ]
    assert {"blocks.1.attn.q_bias", "blocks.1.attn.v_bias"} <= set(
        adapters.attach(small_eva("eva_beside"), "bitfit").adapter_parameters
    )
