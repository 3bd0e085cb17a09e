"""Trainable parameters of the tensor methods against published and measured tables."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.backbones._dims import dims_of

TIMM = {size: f"vit_{size}_patch16_224" for size in ("tiny", "small", "base")}
# The counts without a head for ranks 1, 2, 4, 8, 16.
BY_RANK = {
    ("tlora", "tiny"): (13824, 27648, 55296, 110592, 221184),
    ("tlora", "small"): (27648, 55296, 110592, 221184, 442368),
    ("tlora", "base"): (55296, 110592, 221184, 442368, 884736),
    ("cp", "tiny"): (4644, 9288, 18576, 37152, 74304),
    ("cp", "small"): (9252, 18504, 37008, 74016, 148032),
    ("cp", "base"): (18468, 36936, 73872, 147744, 295488),
    ("tucker2", "tiny"): (4644, 9360, 19008, 39168, 82944),
    ("tucker2", "small"): (9252, 18576, 37440, 76032, 156672),
    ("tucker2", "base"): (18468, 37008, 74304, 149760, 304128),
    ("tucker3", "tiny"): (4656, 9384, 19344, 43296, 123456),
    ("tucker3", "small"): (9264, 18600, 37776, 80160, 197184),
    ("tucker3", "base"): (18480, 37032, 74640, 153888, 344640),
    ("httucker", "tiny"): (9360, 18936, 39600, 93024, 296640),
    ("httucker", "small"): (16380, 32976, 67680, 149184, 408960),
    ("httucker", "base"): (30420, 61056, 123840, 261504, 633600),
    ("htftucker", "tiny"): (3156, 6480, 15648, 74304, 836736),
    ("htftucker", "small"): (5496, 11160, 25008, 93024, 874176),
    ("htftucker", "base"): (10176, 20520, 43728, 130464, 949056),
    ("multi_layer_tucker", "tiny"): (400, 814, 1852, 7288, 71920),
    ("multi_layer_tucker", "small"): (784, 1582, 3388, 10360, 78064),
    ("multi_layer_tucker", "base"): (1552, 3118, 6460, 16504, 90352),
}
# Method, settings; the counts without a head on ViT-Ti and ViT-B.
FACT = [
    ("fact_tk", {}, 4_736, 13_952),
    ("fact_tk", {"rank": 16}, 12_544, 30_976),
    ("fact_tk", {"rank": 32}, 49_664, 86_528),
    ("fact_tk", {"rank": 64}, 295_936, 369_664),
    ("fact_tt", {}, 12_288, 21_504),
    ("fact_tt", {"rank": 16}, 43_008, 61_440),
    ("fact_tt", {"rank": 32}, 159_744, 196_608),
    ("qkv_full", {}, 1_334_016, 21_261_312),
]
TUPLES = {
    "tucker3": ((3, 8, 8), 149_868),
    "httucker": ((8, 4, 4), 127_872),
    "htftucker": ((3, 8, 8, 8), 99_564),
    "multi_layer_tucker": ((12, 3, 8, 8), 14_745),
}


@cache
def meta_vit(size: str, classes: int) -> VisionTransformer:
    with torch.device("meta"):
        return timm.create_model(TIMM[size], num_classes=classes)


def count(name: str, size: str, **settings: Any) -> int:
    """By closed form; `built` gives the same from the tensors themselves."""
    method = registry.method(name)
    return method.count(method.Config(**settings), dims_of(meta_vit(size, 10)))


def built(name: str, size: str, classes: int = 10, **settings: Any) -> Adapted:
    return adapters.attach(copy.deepcopy(meta_vit(size, classes)), name, **settings)


def elements(parameters: dict[str, nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())


@pytest.mark.parametrize(("name", "size"), BY_RANK)
def test_counts_by_rank(name: str, size: str) -> None:
    counts = BY_RANK[name, size]
    assert tuple(count(name, size, rank=rank) for rank in (1, 2, 4, 8, 16)) == counts
    assert elements(built(name, size, rank=4).adapter_parameters) == counts[2]


@pytest.mark.parametrize(("name", "settings", "tiny", "base"), FACT)
def test_counts_of_fact_and_the_full_qkv(
    name: str, settings: dict[str, Any], tiny: int, base: int
) -> None:
    assert (count(name, "tiny", **settings), count(name, "base", **settings)) == (tiny, base)
    assert elements(built(name, "tiny", **settings).adapter_parameters) == tiny
    assert elements(built(name, "base", **settings).adapter_parameters) == base


@pytest.mark.parametrize("name", TUPLES)
def test_counts_with_a_rank_per_mode(name: str) -> None:
    rank, expected = TUPLES[name]
    assert count(name, "base", rank=rank) == expected
    assert elements(built(name, "base", rank=rank).adapter_parameters) == expected


# The two tables of the TLoRA README, ranks 1, 4 and 8; a dash is an empty cell.
README_TABLES = {
    ("CIFAR-10", 10): """
        Classifier Only        | -               | 7,690 (0.01%)        | -
        LoRA (Hugging Face)    | -               | -                    | 450,058 (0.52%)
        LoRA                   | 62,986 (0.07%)  | 228,874 (0.27%)      | 450,058 (0.52%)
        CP                     | 26,158 (0.03%)  | 81,562 (0.09%)       | 155,434 (0.18%)
        Tucker                 | 26,170 (0.03%)  | 82,330 (0.10%)       | 161,578 (0.19%)
        HTTucker               | 38,110 (0.04%)  | 131,530 (0.15%)      | 269,194 (0.31%)
        HTFTucker              | 17,866 (0.02%)  | 51,418 (0.06%)       | 138,154 (0.16%)
        Multi-Layer Tucker     | 9,242 (0.01%)   | 14,150 (0.02%)       | 24,194 (0.03%)
    """,
    ("CUB-200", 200): """
        QKV Full fine tuning   | -               | 21,415,112 (24.92%)  | -
        Classifier Only        | -               | 153,800 (0.18%)      | -
        LoRA                   | 209,096 (0.24%) | 374,984 (0.44%)      | 596,168 (0.69%)
        CP                     | 172,268 (0.20%) | 227,672 (0.26%)      | 301,544 (0.35%)
        Tucker                 | 172,280 (0.20%) | 228,440 (0.27%)      | 307,688 (0.36%)
        HTTucker               | 184,220 (0.21%) | 277,640 (0.32%)      | 415,304 (0.48%)
        HTFTucker              | 163,976 (0.19%) | 197,528 (0.23%)      | 284,264 (0.33%)
        Multi-Layer Tucker     | 155,352 (0.18%) | 160,260 (0.19%)      | 170,304 (0.20%)
    """,
}
README_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "Classifier Only": ("linear", {}),
    "QKV Full fine tuning": ("qkv_full", {}),
    "LoRA (Hugging Face)": ("lora", {"targets": ["q", "k", "v"]}),
    "LoRA": ("tlora", {}),
    "CP": ("cp", {}),
    "Tucker": ("tucker3", {}),
    "HTTucker": ("httucker", {}),
    "HTFTucker": ("htftucker", {}),
    "Multi-Layer Tucker": ("multi_layer_tucker", {}),
}


def test_every_filled_cell_of_the_tlora_readme() -> None:
    wrong, filled_cells = [], 0
    for (data, classes), table in README_TABLES.items():
        for line in table.strip().splitlines():
            row, *cells = (part.strip() for part in line.split("|"))
            name, settings = README_METHODS[row]
            ranked = "rank" in registry.method(name).Config.__dataclass_fields__
            for rank, cell in zip((1, 4, 8), cells, strict=True):
                if cell == "-":
                    continue
                filled_cells += 1
                own = settings | {"rank": rank} if ranked else settings
                adapted = built(name, "base", classes, **own)
                trained = elements(adapted.trainable_parameters)
                total = sum(parameter.numel() for parameter in adapted.vit.parameters())
                found = f"{trained:,} ({100 * trained / total:.2f}%)"
                if found != cell:
                    wrong.append(f"{data}, {row}, R={rank}: {found} built, {cell} published")
    assert wrong == []
    assert filled_cells == 40
