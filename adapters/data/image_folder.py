"""Your own images in folders by class: `image_folder/NAME`.

    <data root>/image_folder/NAME/train/CLASS/*.jpg     and, if you have them, val/CLASS and test/CLASS
    <data root>/image_folder/NAME/CLASS/*.jpg           without a split: a fifth is held out for testing

Labels are the places of the class folders in alphabetical order. Images are the files that end in .jpg,
.jpeg, .png, .bmp, .webp, .tif or .tiff, in any folder below their class. Every class must have an image
in every set that is there, and all sets must have the same classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from adapters.data._files import from_files
from adapters.data._root import data_root
from adapters.data._sampling import Facts, SampledConfig, sample
from adapters.data.contract import Encoded, Member, Splits
from adapters.data.splits import hold_out
from adapters.spec import at_least

SEMANTICS = 1
MEMBERS: tuple[str, ...] = ()
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_HELD_OUT = 5
"""One in so many images is held out for testing where there is no split."""


@dataclass(frozen=True, kw_only=True)
class Config(SampledConfig):
    """The sizes, which must be given since plans are made where the images are not."""

    classes: int
    """How many class folders there are."""
    digest: str | None = None
    """What the digest of the images must be; None means that it is not compared."""

    def __post_init__(self) -> None:
        at_least(2, classes=self.classes)
        super().__post_init__()

    def facts(self) -> Facts:
        """Only the classes are known."""
        return Facts(classes=self.classes)


def member(name: str) -> Member:
    """The data set in the folder `name`; ValueError for a name that leaves the data root."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"image_folder: {name!r} given, allowed: a folder below {_folder('')}")
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
    folder = _folder(name)
    return None if folder.is_dir() else f"put the images at {folder}/train/CLASS/*.jpg"


def _load(name: str, config: Config) -> Splits:
    root = _folder(name)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    sets = {part: root / part for part in ("train", "val", "test") if (root / part).is_dir()}
    if "train" not in sets:
        pool = _read(root, root, config.classes)
        return sample(*hold_out(pool, len(pool) // _HELD_OUT), config)
    names = {part: [folder.name for folder in _folders(path)] for part, path in sets.items()}
    for part, found in names.items():
        if found != names["train"]:
            differing = sorted(set(found) ^ set(names["train"]))
            raise ValueError(
                f"{sets[part]}: class {differing[0]!r} is in one of train and {part} only; "
                "allowed: the same classes"
            )
    pools = {part: _read(root, path, config.classes) for part, path in sets.items()}
    if "test" in pools:
        return sample(pools["train"], pools["test"], config, pools.get("val"))
    held_out = hold_out(pools["train"], len(pools["train"]) // _HELD_OUT)
    return sample(*held_out, config, pools.get("val"))


def _read(root: Path, folder: Path, classes: int) -> Encoded:
    """The images below the class folders of `folder`, named relative to `root`."""
    folders = _folders(folder)
    if len(folders) != classes:
        raise ValueError(
            f"{folder}: {len(folders)} class folders given, allowed: classes, {classes}"
        )
    names: list[str] = []
    labels: list[int] = []
    for label, own in enumerate(folders):
        found = sorted(p for p in own.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())
        if not found:
            raise ValueError(
                f"{own}: no image given, allowed: at least one ({', '.join(_ENDINGS)})"
            )
        names += [path.relative_to(root).as_posix() for path in found]
        labels += [label] * len(found)
    return from_files(root, names, np.array(labels, np.int64))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _folder(name: str) -> Path:
    return data_root() / "image_folder" / name
