"""Fashion-MNIST, a subset: 28 x 28 grey product photos of ten kinds of clothing.

Xiao, Rasul and Vollgraf, 2017, arXiv 1708.07747. Stored with this file: the first 100 images of each
class of the original training file and of the original test file, 2,000 of 70,000. MIT, notice in
`assets/fashion_mnist.LICENSE`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve, grey_to_rgb

GROUP = "natural"
CLASSES = 10
DIGEST = "e8027ecaacdebfc3ae2aef2d6ce1ea26ad71614aca224b6856362a72cd502ffc"
SEMANTICS = 1
Config = SplitConfig


def missing() -> str | None:
    """Never missing: the images ship with this package."""
    return None


def load(config: SplitConfig) -> Splits:
    """Train and val from the original training file, test from the original test file."""
    with np.load(Path(__file__).parent / "assets" / "fashion_mnist.npz", allow_pickle=False) as f:
        train_pool, test_pool = (
            Images(grey_to_rgb(f[f"{part}_pixels"]), f[f"{part}_labels"].astype(np.int64))
            for part in ("train", "test")
        )
    return carve(train_pool, test_pool, config, CLASSES)
