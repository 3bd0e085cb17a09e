"""Materials: 48 x 48 patches of 14 photos, and the class is the photo the patch was cut from.

It measures how well a material is recognised within one photo of it (brick, gravel, tissue, fur,
print, ...), not how well that carries over to photos never seen. The split is made inside each
photo: train and val patches lie in its left 60 %, test patches in its right 35 %, nothing in the 5
% between. The left part is cut into three bands, one above the other; val patches come from one
band, train patches from the two others, so no two sets share a pixel. Patches of one set overlap.

The photos ship in the wheels of scikit-image (mostly CC0 or public domain) and scikit-learn (china
and flower, CC BY 2.0); nothing is downloaded. They are read by path, so neither package is
imported. Four are JPEG files: a decoder that gives other pixels gives another digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve

GROUP = "specialised"
CLASSES = 14
DIGEST = "49113b64d4be41344a92d48cf034967507aa4c8a6a9eab37c67806fdcf0181e0"
SEMANTICS = 1

_SIDE = 48
_BANDS = 3
_TRAIN_PER_BAND = 40
_TEST_PER_PHOTO = 80
_SEED = 48
_PHOTOS = (
    ("skimage", "data/brick.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/page.png"),
    ("skimage", "data/moon.png"),
    ("skimage", "data/cell.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)


@dataclass(frozen=True, kw_only=True)
class Config(SplitConfig):
    """The sizes of the sets."""

    train: int = 800
    """Images to train on; at most 1120, since a third of the train pool is left to val."""


def missing() -> str | None:
    """The command that installs the photos, where one is absent."""
    found = [_path(package, file) for package, file in _PHOTOS]
    return None if all(p and p.is_file() for p in found) else 'pip install "peftgrid[demo]"'


def load(config: Config) -> Splits:
    """Cut the patches and split them."""
    from PIL import Image

    rng = np.random.RandomState(_SEED)
    train: list[NDArray[np.uint8]] = []
    test: list[NDArray[np.uint8]] = []
    for package, file in _PHOTOS:
        path = _path(package, file)
        assert path is not None, f"{package} is absent; `missing` says so"
        with Image.open(path) as image:
            photo_HWC = np.asarray(image.convert("RGB"))
        if "retina" in file:  # a round photo, whose black corners are all alike
            margin = photo_HWC.shape[0] * 16 // 100
            photo_HWC = photo_HWC[margin:-margin, margin:-margin]
        height, width = photo_HWC.shape[:2]
        for band in range(_BANDS):
            top, bottom = band * height // _BANDS, (band + 1) * height // _BANDS
            train += _patches(photo_HWC[top:bottom, : width * 60 // 100], _TRAIN_PER_BAND, rng)
        test += _patches(photo_HWC[:, width * 65 // 100 :], _TEST_PER_PHOTO, rng)
    train_labels = np.repeat(np.arange(CLASSES), _BANDS * _TRAIN_PER_BAND)
    return carve(
        Images(np.stack(train), train_labels),
        Images(np.stack(test), np.repeat(np.arange(CLASSES), _TEST_PER_PHOTO)),
        config,
        CLASSES,
        blocks=np.tile(np.repeat(np.arange(_BANDS), _TRAIN_PER_BAND), CLASSES),
    )


def _path(package: str, file: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent / file if spec and spec.origin else None


def _patches(
    area_HWC: NDArray[np.uint8], count: int, rng: np.random.RandomState
) -> list[NDArray[np.uint8]]:
    tops = rng.randint(area_HWC.shape[0] - _SIDE + 1, size=count)
    lefts = rng.randint(area_HWC.shape[1] - _SIDE + 1, size=count)
    return [
        area_HWC[top : top + _SIDE, left : left + _SIDE]
        for top, left in zip(tops, lefts, strict=True)
    ]
