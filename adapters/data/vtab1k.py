"""VTAB-1K: 19 tasks of 800 training and 200 validation images each (Zhai et al., 2019, arXiv 1910.04867).

On disk it is the processed form that the studies of PEFT on ViTs share, below the data root:

    vtab1k/TASK/{train800,val200,train800val200,test}.txt    lines of `path label`
    vtab1k/TASK/...                                          the images, where the paths say

Train and val are those of the benchmark. A run with `fit: train+val` trains on the 1,000 of
`train800val200`, which is checked to be the union of both: by path, or, where that list has copies
of its own, by the bytes of the images.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import partial

from adapters.data._files import check_count
from adapters.data._lists import check_disjoint, read_list
from adapters.data._root import data_root
from adapters.data._sampling import first_of
from adapters.data.contract import Encoded, Member, Splits, digest
from adapters.registry import UnknownNameError, unknown
from adapters.spec import at_least

SEMANTICS = 1
TRAIN, VAL = 800, 200


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is published about a task."""

    group: str
    classes: int
    test: int
    """Images of the test set."""


TASKS = {
    "cifar": Task(group="natural", classes=100, test=10_000),
    "caltech101": Task(group="natural", classes=102, test=6_085),
    "dtd": Task(group="natural", classes=47, test=1_880),
    "oxford_flowers102": Task(group="natural", classes=102, test=6_149),
    "oxford_iiit_pet": Task(group="natural", classes=37, test=3_669),
    "svhn": Task(group="natural", classes=10, test=26_032),
    "sun397": Task(group="natural", classes=397, test=21_750),
    "patch_camelyon": Task(group="specialised", classes=2, test=32_768),
    "eurosat": Task(group="specialised", classes=10, test=5_400),
    "resisc45": Task(group="specialised", classes=45, test=6_300),
    "diabetic_retinopathy": Task(group="specialised", classes=5, test=42_670),
    "clevr_count": Task(group="structured", classes=8, test=15_000),
    "clevr_dist": Task(group="structured", classes=6, test=15_000),
    "dmlab": Task(group="structured", classes=6, test=22_735),
    "kitti": Task(group="structured", classes=4, test=711),
    "dsprites_loc": Task(group="structured", classes=16, test=73_728),
    "dsprites_ori": Task(group="structured", classes=16, test=73_728),
    "smallnorb_azi": Task(group="structured", classes=18, test=12_150),
    "smallnorb_ele": Task(group="structured", classes=9, test=12_150),
}
MEMBERS = tuple(TASKS)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The benchmark fixes train and val; only quick looks use fewer test images."""

    train: int = TRAIN
    val: int = VAL
    test: int | None = None
    """None means the whole test set; a larger number contains the images of a smaller one."""

    def __post_init__(self) -> None:
        for name, given, fixed in (("train", self.train, TRAIN), ("val", self.val, VAL)):
            if given != fixed:
                raise ValueError(f"{name}: {given} given, allowed: {fixed}, which VTAB-1K fixes")
        if self.test is not None:
            at_least(1, test=self.test)


def member(name: str) -> Member:
    """One task; UnknownNameError for a name that is none."""
    if name not in TASKS:
        raise UnknownNameError(unknown("task of vtab1k", name, MEMBERS))
    task = TASKS[name]
    return Member(
        GROUP=task.group,
        CLASSES=task.classes,
        DIGEST=None,
        SEMANTICS=SEMANTICS,
        Config=Config,
        missing=partial(_missing, name),
        load=partial(_load, name, task),
    )


def _missing(name: str) -> str | None:
    folder = data_root() / "vtab1k" / name
    lists = ("train800", "val200", "train800val200", "test")
    absent = [f"{part}.txt" for part in lists if not (folder / f"{part}.txt").is_file()]
    if not absent:
        return None
    return (
        f"unpack the processed VTAB-1K (vtab-1k.zip of the PEFT studies) so that {folder} holds "
        f"{', '.join(absent)} and the images"
    )


def _load(name: str, task: Task, config: Config) -> Splits:
    """The four lists, checked against each other and against the published counts."""
    folder = data_root() / "vtab1k" / name
    train, val, both, test = (
        read_list(folder / f"{part}.txt", folder, task.classes)
        for part in ("train800", "val200", "train800val200", "test")
    )
    check_count(f"{folder / 'train800.txt'}", len(train), TRAIN)
    check_count(f"{folder / 'val200.txt'}", len(val), VAL)
    check_count(f"{folder / 'train800val200.txt'}", len(both), TRAIN + VAL)
    check_count(f"{folder / 'test.txt'}", len(test), task.test)
    check_disjoint(train800=train, val200=val, test=test)
    check_disjoint(train800val200=both, test=test)
    if _entries(train, val) != _entries(both) and _contents(train, val) != _contents(both):
        raise ValueError(
            f"{folder / 'train800val200.txt'}: other images or labels given, "
            "allowed: the union of train800.txt and val200.txt"
        )
    return Splits(
        train=train,
        val=val,
        test=first_of(test, config.test),
        classes=task.classes,
        source_digest=digest(train, val, test),
    )


def _entries(*parts: Encoded) -> Counter[tuple[str, int]]:
    """Each path with its label."""
    return Counter(
        entry for part in parts for entry in zip(part.names, part.labels.tolist(), strict=True)
    )


def _contents(*parts: Encoded) -> Counter[tuple[str, int]]:
    """Each image's digest with its label, however often."""
    return Counter(
        (hashlib.sha256(part.read(name)).hexdigest(), label)
        for part in parts
        for name, label in zip(part.names, part.labels.tolist(), strict=True)
    )
