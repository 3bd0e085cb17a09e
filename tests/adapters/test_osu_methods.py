"""Counts, trained tensors and starts of the methods of the OSU study (arXiv:2409.16434).

The numbers were measured on the study's own code, heads excluded.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

import adapters
from adapters import registry
from adapters.backbones._dims import dims_of
from adapters.method import Dims
from adapters.methods import convpass, repadapter
from adapters.methods._bottleneck import INITS, bottleneck_pair
from adapters.methods._prompts import draw_prompts

NAMES = {
    "Ti": "vit_tiny_patch16_224",
    "S": "vit_small_patch16_224",
    "B": "vit_base_patch16_224",
    "CLIP": "vit_base_patch16_clip_224",
    "DINOv2": "vit_base_patch14_dinov2",
}


@cache
def meta_vit(name: str) -> VisionTransformer:
    with torch.device("meta"):
        return timm.create_model(NAMES[name], num_classes=0, img_size=224)


@cache
def dims(name: str) -> Dims:
    return dims_of(meta_vit(name))


def attach(vit: str, name: str, **settings: Any) -> adapters.Adapted:
    return adapters.attach(copy.deepcopy(meta_vit(vit)), name, **settings)


def count(name: str, vit: str, **settings: Any) -> int:
    method = registry.method(name)
    return method.count(method.Config(**settings), dims(vit))


def elements(adapted: adapters.Adapted) -> int:
    return sum(parameter.numel() for parameter in adapted.adapter_parameters.values())


LAST, LAST_THREE, LAST_FOUR = (11,), (9, 10, 11), (-4, -3, -2, -1)
# Method, settings, ViT-B, ViT-Ti.
COUNTS: list[tuple[str, dict[str, Any], int, int]] = [
    ("layernorm", {}, 38_400, 9_600),
    ("difffit", {}, 140_544, 35_136),
    ("ssf", {}, 205_824, 51_456),
    ("vpt_shallow", {}, 7_680, 1_920),
    ("vpt_shallow", {"prompts": 5}, 3_840, 960),
    ("vpt_shallow", {"prompts": 50}, 38_400, 9_600),
    ("vpt_shallow", {"prompts": 100, "through": "first"}, 76_800, 19_200),
    ("vpt_shallow", {"prompts": 200}, 153_600, 38_400),
    ("vpt_deep", {}, 92_160, 23_040),
    ("vpt_deep", {"prompts": 5}, 46_080, 11_520),
    ("vpt_deep", {"prompts": 50}, 460_800, 115_200),
    ("vpt_deep", {"prompts": 100}, 921_600, 230_400),
    ("vpt_deep", {"blocks": LAST_FOUR}, 30_720, 7_680),
    ("vqt", {}, 92_281, 23_161),
    ("vqt", {"prompts": 1}, 9_229, 2_317),
    ("adaptformer", {}, 1_189_632, 297_984),
    ("adaptformer", {"bottleneck": 4}, 82_992, 20_784),
    ("adaptformer", {"bottleneck": 16}, 304_320, 76_224),
    ("adaptformer", {"bottleneck": 32}, 599_424, 150_144),
    ("adaptformer", {"scale": "learned"}, 1_189_632 + 12, 297_984 + 12),
    ("adapter", {}, 1_189_632, 297_984),
    ("adapter", {"placement": "pfeiffer", "bottleneck": 8}, 156_768, 39_264),
    ("adapter", {"placement": "houlsby", "bottleneck": 8}, 313_536, 78_528),
    ("adapter_zero", {}, 156_768, 39_264),
    ("pfeiffer", {}, 156_768, 39_264),
    ("pfeiffer", {"bottleneck": 64}, 1_189_632, 297_984),
    ("houlsby", {}, 313_536, 78_528),
    ("houlsby", {"bottleneck": 4}, 165_984, 41_568),
    ("houlsby", {"bottleneck": 16}, 608_640, 152_448),
    ("houlsby", {"bottleneck": 32}, 1_198_848, 300_288),
    ("houlsby", {"bottleneck": 64}, 2_379_264, 595_968),
    ("houlsby", {"scale": "learned"}, 313_536 + 24, 78_528 + 24),
    ("convpass", {}, 327_552, 92_544),
    ("convpass", {"bottleneck": 16}, 664_320, 208_128),
    ("convpass", {"bottleneck": 32}, 1_420_800, 522_240),
    ("repadapter", {}, 239_808, 60_096),
    ("repadapter", {"bottleneck": 16}, 461_184, 115_584),
    ("repadapter", {"bottleneck": 32}, 903_936, 226_560),
    ("repadapter", {"groups": 4}, 202_944, 50_880),
    ("attention", {}, 5_315_328, 333_504),
    ("attention", {"indices": LAST_THREE, "part": "full"}, 7_087_104, 444_672),
    ("attention", {"indices": LAST, "part": "full"}, 2_362_368, 148_224),
    ("attention", {"indices": LAST_THREE, "part": "proj"}, 1_771_776, 111_168),
    ("mlp", {}, 14_167_296, 887_616),
    ("mlp", {"indices": LAST_THREE, "part": "fc1"}, 7_087_104, 444_672),
    ("mlp", {"indices": LAST_THREE, "part": "fc2"}, 7_080_192, 442_944),
    ("mlp", {"indices": LAST}, 4_722_432, 295_872),
    ("blocks", {}, 21_263_616, 1_334_592),
    ("blocks", {"indices": LAST}, 7_087_872, 444_864),
]


@pytest.mark.parametrize(("name", "settings", "base", "tiny"), COUNTS)
def test_counts(name: str, settings: dict[str, Any], base: int, tiny: int) -> None:
    assert (count(name, "B", **settings), count(name, "Ti", **settings)) == (base, tiny)


@pytest.mark.parametrize("name", dict.fromkeys(name for name, *_ in COUNTS))
def test_what_is_put_on_vit_small_is_what_is_counted(name: str) -> None:
    assert elements(attach("S", name)) == count(name, "S")


# CLIP's ViT has a norm before the blocks and no bias in the patch embedding; DINOv2 LayerScale.
ELSEWHERE = [
    ("CLIP", "full", 85_799_424),
    ("CLIP", "bitfit", 102_912),
    ("CLIP", "layernorm", 39_936),
    ("CLIP", "difffit", 141_312),
    ("CLIP", "ssf", 205_824),
    ("CLIP", "vpt_deep", 92_160),
    ("DINOv2", "full", 85_724_928),
    ("DINOv2", "bitfit", 102_912),
    ("DINOv2", "layernorm", 38_400),
    ("DINOv2", "difffit", 140_544),
    ("DINOv2", "ssf", 205_824),
    ("DINOv2", "convpass", 327_552),
    ("DINOv2", "blocks", 21_263_616),
]


@pytest.mark.parametrize(("vit", "name", "expected"), ELSEWHERE)
def test_counts_on_clip_and_dinov2(vit: str, name: str, expected: int) -> None:
    assert elements(attach(vit, name)) == expected
    assert count(name, vit) == expected


@pytest.mark.parametrize("name", ["attention", "mlp", "blocks"])
def test_block_one_is_not_ten_or_eleven(name: str) -> None:
    trained = attach("Ti", name, indices=(1,)).adapter_parameters
    assert {path.split(".")[1] for path in trained} == {"1"}


def test_selective_tuning_trains_what_it_names() -> None:
    both = {f"blocks.11.{x}.{y}" for x in ("attn.qkv", "attn.proj") for y in ("weight", "bias")}
    assert set(attach("Ti", "attention", indices=(-1,), part="full").adapter_parameters) == both
    assert set(attach("Ti", "mlp", indices=(0,), part="fc2").adapter_parameters) == {
        "blocks.0.mlp.fc2.weight",
        "blocks.0.mlp.fc2.bias",
    }
    block = attach("Ti", "blocks", indices=(0,))
    named = {n for n, _ in block.vit.named_parameters() if n.startswith("blocks.0.")}
    assert set(block.adapter_parameters) == named


def test_difffit_and_ssf_exempt_their_scales_from_decay() -> None:
    difffit, ssf = attach("Ti", "difffit"), attach("Ti", "ssf")
    assert len(difffit.no_decay) == 24
    assert len(ssf.no_decay) == 6 * 12 + 2
    assert all(name.endswith(".scale") for name in difffit.no_decay | ssf.no_decay)


@pytest.mark.parametrize(
    ("vit", "bound"), [("B", 0.0625), ("Ti", 0.07905694), ("DINOv2", 0.06651901)]
)
def test_prompts_start_uniform(vit: str, bound: float) -> None:
    drawn = draw_prompts(meta_vit(vit), 50, torch.Generator().manual_seed(0))
    assert 0.998 * bound < drawn.abs().max() <= bound
    assert drawn.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)


@pytest.mark.parametrize("init", INITS)
def test_how_a_bottleneck_starts(init: str) -> None:
    down, up = bottleneck_pair(768, 64, init, torch.Generator().manual_seed(0))
    linear, xavier = 768**-0.5, (6 / (768 + 64)) ** 0.5
    bounds = {"lora_kaiming": linear, "lora_xavier": xavier, "xavier": xavier, "zero": linear}
    if init == "study":
        for weight in (down.weight, up.weight):
            assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    else:
        assert 0.99 * bounds[init] < down.weight.abs().max() <= bounds[init]
    if init == "xavier":
        assert 0.99 * xavier < up.weight.abs().max() <= xavier
        assert up.bias.std().item() == pytest.approx(1e-6, rel=0.1)
        assert down.bias.std().item() == pytest.approx(1e-6, rel=0.3)
    else:
        assert not up.bias.any()
        assert bool(up.weight.any()) == (init == "study")
        assert bool(down.bias.any()) == (init == "zero")
    if init == "zero":
        assert 0.9 * linear < down.bias.abs().max() <= linear


def test_how_the_others_start() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = convpass.ConvPass(768, 14, convpass.Config(), generator).conv.weight
    assert torch.equal(kernel[:, :, 1, 1], torch.eye(8))
    assert kernel.sum() == 8
    config = convpass.Config(bottleneck=32, kernel_init="xavier")
    conv = convpass.ConvPass(768, 14, config, generator).conv
    bound = (6 / (18 * 32)) ** 0.5
    assert 0.99 * bound < conv.weight.abs().max() <= bound
    assert not conv.bias.any()

    linear = torch.nn.Linear(768, 2304, device="meta")
    rep = repadapter.RepLinear(linear, config=repadapter.Config(bottleneck=32), generator=generator)
    assert 0.99 * (6 / 800) ** 0.5 < rep.down.abs().max() <= (6 / 800) ** 0.5
    assert not any(tensor.any() for tensor in (rep.down_bias, rep.up, rep.up_bias))

    small = VisionTransformer(img_size=28, patch_size=14, embed_dim=96, depth=2, num_heads=3)
    ssf = adapters.attach(copy.deepcopy(small), "ssf").adapter_parameters
    for kind, mean in (("scale", 1.0), ("shift", 0.0)):
        drawn = torch.cat([p.flatten() for n, p in ssf.items() if n.endswith(kind)])
        assert drawn.mean().item() == pytest.approx(mean, abs=0.002)
        assert drawn.std().item() == pytest.approx(0.02, rel=0.05)
    for name, kind in (("difffit", "scale"), ("vqt", "combine")):
        made = adapters.attach(copy.deepcopy(small), name).adapter_parameters
        ones = [p for n, p in made.items() if n.endswith(kind)]
        assert ones
        assert all((p == 1).all() for p in ones)
    learned = adapters.attach(copy.deepcopy(small), "pfeiffer", scale="learned")
    assert [p.tolist() for n, p in learned.adapter_parameters.items() if n.endswith("scale")] == [
        [1.0],
        [1.0],
    ]
    study = adapters.attach(small, "vqt", prompts=500, init="study").adapter_parameters
    assert study["blocks.1.combine"].std().item() == pytest.approx(0.02, rel=0.1)


def test_the_order_of_blocks_changes_no_config() -> None:
    attention, deep = registry.method("attention").Config, registry.method("vpt_deep").Config
    assert attention(indices=(-1, 3, 0)) == attention(indices=(0, 3, -1))
    assert deep(blocks=(2, 0)) == deep(blocks=(0, 2)) != deep()
