"""Your own images named by lists: `image_list/NAME`.

    <data root>/image_list/NAME/train.txt     and test.txt and, if you have one, val.txt

A line is `relative/path label`, the label a whole number from 0 after the last space; paths are relative
to the folder of the lists. No image may be in two of the lists.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from adapters.data._lists import check_disjoint, read_list
from adapters.data._root import data_root
from adapters.data._sampling import sample
from adapters.data.contract import Member, Splits
from adapters.data.image_folder import Config

SEMANTICS = 1
MEMBERS: tuple[str, ...] = ()


def member(name: str) -> Member:
    """The data set in the folder `name`; ValueError for a name that leaves the data root."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"image_list: {name!r} given, allowed: a folder below {_folder('')}")
    return Member(
        GROUP="natural",
        CLASSES=None,
        DIGEST=None,
        SEMANTICS=SEMANTICS,
        Config=Config,
        missing=partial(_missing, name),
        load=partial(_load, name),
    )


def _missing(name: str) -> str | None:
    absent = [f"{part}.txt" for part in ("train", "test") if not _list(name, part).is_file()]
    return f"put {' and '.join(absent)} into {_folder(name)}" if absent else None


def _load(name: str, config: Config) -> Splits:
    parts = ["train", "test", *(["val"] if _list(name, "val").is_file() else [])]
    pools = {p: read_list(_list(name, p), _folder(name), config.classes) for p in parts}
    check_disjoint(**pools)
    return sample(pools["train"], pools["test"], config, pools.get("val"))


def _list(name: str, part: str) -> Path:
    return _folder(name) / f"{part}.txt"


def _folder(name: str) -> Path:
    return data_root() / "image_list" / name
