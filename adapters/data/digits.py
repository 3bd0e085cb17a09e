"""Digits: 8 x 8 grey handwritten digits in 17 levels (UCI, 1998), the 1,797 images that scikit-learn ships.

Small enough for smoke tests; at this size raw pixels alone give about 96 %. One pool, so 797 images
are set aside for testing first.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve, grey_to_rgb, hold_out

GROUP = "natural"
CLASSES = 10
DIGEST = "431e585d647e53d002b58eccc1b5a15bb96ea1c72978771d8cde91cc7888a5d2"
SEMANTICS = 1
_TEST_POOL = 797


@dataclass(frozen=True, kw_only=True)
class Config(SplitConfig):
    """The sizes of the sets."""

    test: int = 700


def missing() -> str | None:
    """The command that installs scikit-learn, where it is absent."""
    return None if find_spec("sklearn") else 'pip install "peftgrid[demo]"'


def load(config: Config) -> Splits:
    """Spread the levels 0..16 over 0..255 and split."""
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels_NHW = np.minimum(source.images.astype(np.int64) * 16, 255).astype(np.uint8)
    pool = Images(grey_to_rgb(pixels_NHW), source.target.astype(np.int64))
    return carve(*hold_out(pool, _TEST_POOL), config, CLASSES)
