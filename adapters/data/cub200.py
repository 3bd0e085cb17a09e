"""CUB-200-2011: photos of 200 species of birds (Wah et al., Caltech, 2011), with its official split.

On disk it is the authors' own layout, below the data root: `cub200/CUB_200_2011` with `images.txt`,
`image_class_labels.txt`, `train_test_split.txt` and `images/`. Val is carved out of the official
training images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapters.data._files import check_count, check_labels, from_files
from adapters.data._root import data_root
from adapters.data._sampling import Facts, SampledConfig, sample, sampled
from adapters.data.contract import Splits

GROUP = "natural"
CLASSES = 200
DIGEST = None
SEMANTICS = 1
TRAIN, TEST = 5_994, 5_794
Config = sampled(Facts(classes=CLASSES, train=TRAIN, test=TEST))
_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt")


def missing() -> str | None:
    """What to put where, where it is absent."""
    folder = _folder()
    if all((folder / name).exists() for name in (*_LISTS, "images")):
        return None
    return f"unpack CUB_200_2011.tgz of Caltech-UCSD Birds-200-2011 into {folder.parent}"


def load(config: SampledConfig) -> Splits:
    """The official training and test images, val carved out of the former."""
    folder = _folder()
    names, labels, in_train = (_numbered(folder / name) for name in _LISTS)
    for file, column in zip(_LISTS[1:], (labels, in_train), strict=True):
        if column.keys() != names.keys():
            odd = min(column.keys() ^ names.keys())
            raise ValueError(f"{folder / file}: its images and those of images.txt differ at {odd}")
    order = sorted(names)
    label_N = np.array([_whole(folder / _LISTS[1], i, labels[i]) - 1 for i in order], np.int64)
    check_labels(str(folder / _LISTS[1]), label_N, CLASSES)
    in_train_N = np.array([_whole(folder / _LISTS[2], i, in_train[i]) == 1 for i in order])
    pool = from_files(folder / "images", [names[i] for i in order], label_N)
    train, test = (pool.take(np.flatnonzero(chosen)) for chosen in (in_train_N, ~in_train_N))
    check_count("training images of CUB-200-2011", len(train), TRAIN)
    check_count("test images of CUB-200-2011", len(test), TEST)
    return sample(train, test, config)


def _folder() -> Path:
    return data_root() / "cub200" / "CUB_200_2011"


def _numbered(file: Path) -> dict[int, str]:
    """Lines of `number value`, as all lists of the data set are."""
    found: dict[int, str] = {}
    for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        number, _, value = text.strip().partition(" ")
        if not number.isdecimal() or not value:
            raise ValueError(f"{file}:{line}: {text!r} given, allowed: a number, a space, a value")
        found[int(number)] = value
    return found


def _whole(file: Path, image: int, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{file}: {value!r} of image {image} given, allowed: a whole number")
    return int(value)
