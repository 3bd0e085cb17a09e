"""Location: in which cell of a 4 x 4 grid the object lies (as in dSprites-location, in colour).

One object of random shape, size, angle and colour; cells are numbered row by row. Drawn when
loaded, in about a second; the same bits on every machine.
"""

from __future__ import annotations

import numpy as np

from adapters.data import _render
from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve

GROUP = "structured"
CLASSES = 16
DIGEST = "a7b2e9c93412849c4983c9185d5bc46f065cc8757895fed5dc089e40e90fc447"
SEMANTICS = 1
Config = SplitConfig
_KINDS: tuple[_render.Kind, ...] = ("circle", "square", "triangle")
_CELL = _render.SIDE * _render.UNIT // 4
_MARGIN = _render.UNIT
"""Centres keep this distance from the border of their cell: none lies between two classes."""


def missing() -> str | None:
    """Never missing: the images are drawn."""
    return None


def load(config: SplitConfig) -> Splits:
    """Draw both pools and split them."""
    return carve(_pool(seed=201, count=1200), _pool(seed=202, count=1000), config, CLASSES)


def _pool(*, seed: int, count: int) -> Images:
    rng = np.random.RandomState(seed)
    labels_N = _render.labels(rng, count, CLASSES)
    images_NHWC = _render.backgrounds(rng, count)
    for image_HWC, label in zip(images_NHWC, labels_N.tolist(), strict=True):
        row, column = divmod(label, 4)
        dx, dy = rng.randint(_MARGIN, _CELL - _MARGIN + 1, size=2).tolist()
        x, y = column * _CELL + dx, row * _CELL + dy
        colour_C = _render.contrasting(rng, image_HWC, x, y)
        _render.draw(
            image_HWC,
            _KINDS[rng.randint(len(_KINDS))],
            x=x,
            y=y,
            radius=int(rng.randint(4 * _render.UNIT, 8 * _render.UNIT)),
            angle=int(rng.randint(_render.TURN)),
            colour_C=colour_C,
        )
    return Images(images_NHWC, labels_N)
