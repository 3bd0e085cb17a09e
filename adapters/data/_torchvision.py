"""What is known of each data set of torchvision, and how its images are taken out of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from adapters.data._files import from_files
from adapters.data.contract import Images, Part
from adapters.data.splits import grey_to_rgb

Reader = Callable[[Any, Path], Part]
"""From torchvision's own object and the folder that names are relative to."""


def _arrays(labels: str) -> Reader:
    """The images are in memory: (N, H, W, 3), (N, 3, H, W) or, grey, (N, H, W)."""

    def read(source: Any, _root: Path) -> Images:
        pixels = np.asarray(source.data)
        if pixels.ndim == 3:
            pixels = grey_to_rgb(pixels)
        elif pixels.shape[3] != 3:
            pixels = pixels.transpose(0, 2, 3, 1)
        return Images(
            np.ascontiguousarray(pixels), np.asarray(getattr(source, labels)).astype(np.int64)
        )

    return read


def _files(paths: str, labels: str) -> Reader:
    """Two attributes hold paths and labels. torchvision offers no public way to the undecoded files."""

    def read(source: Any, root: Path) -> Part:
        return _below(root, attrgetter(paths)(source), attrgetter(labels)(source))

    return read


def _pairs(samples: str) -> Reader:
    """One attribute holds pairs of path and label."""

    def read(source: Any, root: Path) -> Part:
        paths, labels = zip(*attrgetter(samples)(source), strict=True)
        return _below(root, paths, labels)

    return read


def _caltech(source: Any, root: Path) -> Part:
    """Images are numbered within their category."""
    folder = Path(source.root) / "101_ObjectCategories"
    paths = [
        folder / source.categories[label] / f"image_{number:04d}.jpg"
        for label, number in zip(source.y, source.index, strict=True)
    ]
    return _below(root, paths, source.y)


def _below(root: Path, paths: Any, labels: Any) -> Part:
    names = [Path(path).relative_to(root).as_posix() for path in paths]
    return from_files(root, names, np.asarray(labels, np.int64))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A class of `torchvision.datasets`, and what is published about the data set."""

    reader: str
    """The name of the class."""
    read: Reader
    classes: int
    pools: tuple[Mapping[str, Any], ...]
    """Settings of the class for each part of the train pool."""
    test_pool: Mapping[str, Any] | None
    """The same for the test set; None where it is held out of the only pool."""
    train: int
    test: int
    needs: tuple[str, ...]
    """What must be there, relative to the folder `torchvision`."""
    group: str = "natural"
    by_hand: str | None = None
    """Where torchvision cannot download it: what to put there."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the class."""


_BY_FLAG: dict[str, Any] = {"pools": ({"train": True},), "test_pool": {"train": False}}
_BY_NAME: dict[str, Any] = {"pools": ({"split": "train"},), "test_pool": {"split": "test"}}
_WITH_VAL: dict[str, Any] = {
    "pools": ({"split": "train"}, {"split": "val"}),
    "test_pool": {"split": "test"},
}
_WITH_TRAINVAL: dict[str, Any] = {
    "pools": ({"split": "trainval"},),
    "test_pool": {"split": "test"},
}
_ONE_POOL: dict[str, Any] = {"pools": ({},), "test_pool": None}


def _mnist_like(reader: str) -> Source:
    return Source(
        reader=reader,
        read=_arrays("targets"),
        classes=10,
        train=60_000,
        test=10_000,
        needs=(f"{reader}/raw",),
        **_BY_FLAG,
    )


SOURCES = {
    "cifar10": Source(
        reader="CIFAR10",
        read=_arrays("targets"),
        classes=10,
        train=50_000,
        test=10_000,
        needs=("cifar-10-batches-py",),
        **_BY_FLAG,
    ),
    "cifar100": Source(
        reader="CIFAR100",
        read=_arrays("targets"),
        classes=100,
        train=50_000,
        test=10_000,
        needs=("cifar-100-python",),
        **_BY_FLAG,
    ),
    "svhn": Source(
        reader="SVHN",
        read=_arrays("labels"),
        classes=10,
        train=73_257,
        test=26_032,
        needs=("train_32x32.mat", "test_32x32.mat"),
        **_BY_NAME,
    ),
    "stl10": Source(
        reader="STL10",
        read=_arrays("labels"),
        classes=10,
        train=5_000,
        test=8_000,
        needs=("stl10_binary",),
        **_BY_NAME,
    ),
    "mnist": _mnist_like("MNIST"),
    "fashion_mnist": _mnist_like("FashionMNIST"),
    "kmnist": _mnist_like("KMNIST"),
    "dtd": Source(
        reader="DTD",
        read=_files("_image_files", "_labels"),
        classes=47,
        train=3_760,
        test=1_880,
        needs=("dtd/dtd",),
        more={"partition": 1},
        **_WITH_VAL,
    ),
    "flowers102": Source(
        reader="Flowers102",
        read=_files("_image_files", "_labels"),
        classes=102,
        train=2_040,
        test=6_149,
        needs=("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
        **_WITH_VAL,
    ),
    "oxford_pets": Source(
        reader="OxfordIIITPet",
        read=_files("_images", "_labels"),
        classes=37,
        train=3_680,
        test=3_669,
        needs=("oxford-iiit-pet/images", "oxford-iiit-pet/annotations"),
        **_WITH_TRAINVAL,
    ),
    "fgvc_aircraft": Source(
        reader="FGVCAircraft",
        read=_files("_image_files", "_labels"),
        classes=100,
        train=6_667,
        test=3_333,
        needs=("fgvc-aircraft-2013b/data",),
        **_WITH_TRAINVAL,
    ),
    "food101": Source(
        reader="Food101",
        read=_files("_image_files", "_labels"),
        classes=101,
        train=75_750,
        test=25_250,
        needs=("food-101/meta", "food-101/images"),
        **_BY_NAME,
    ),
    "stanford_cars": Source(
        reader="StanfordCars",
        read=_pairs("_samples"),
        classes=196,
        train=8_144,
        test=8_041,
        needs=tuple(
            f"stanford_cars/{name}"
            for name in ("devkit", "cars_train", "cars_test", "cars_test_annos_withlabels.mat")
        ),
        by_hand="torchvision can no longer download it: from a copy of Stanford Cars put the folders "
        "cars_train, cars_test and devkit and the file cars_test_annos_withlabels.mat",
        **_BY_NAME,
    ),
    "eurosat": Source(
        reader="EuroSAT",
        read=_pairs("samples"),
        classes=10,
        group="specialised",
        train=21_600,
        test=5_400,
        needs=("eurosat/2750",),
        **_ONE_POOL,
    ),
    "caltech101": Source(
        reader="Caltech101",
        read=_caltech,
        classes=101,
        train=6_657,
        test=2_020,
        needs=("caltech101/101_ObjectCategories",),
        **_ONE_POOL,
    ),
}
