"""Counting: how many objects a rendered scene has, 1 to 6 (as in Clevr-count, simpler scenes).

Objects differ in shape, size, angle and colour and do not touch; sizes vary so much that the
painted area tells little about the number. Drawn when loaded, in about a second; the same bits on
every machine.
"""

from __future__ import annotations

import numpy as np

from adapters.data import _render
from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve

GROUP = "structured"
CLASSES = 6
DIGEST = "d955a001742f2f6c7eaaeeecb4af27016f7ab6d55399907b0e1a2dc498037e63"
SEMANTICS = 1
Config = SplitConfig
_KINDS: tuple[_render.Kind, ...] = ("circle", "square", "triangle")


def missing() -> str | None:
    """Never missing: the images are drawn."""
    return None


def load(config: SplitConfig) -> Splits:
    """Draw both pools and split them."""
    return carve(_pool(seed=101, count=1200), _pool(seed=102, count=1000), config, CLASSES)


def _pool(*, seed: int, count: int) -> Images:
    rng = np.random.RandomState(seed)
    labels_N = _render.labels(rng, count, CLASSES)
    images_NHWC = _render.backgrounds(rng, count)
    for image_HWC, label in zip(images_NHWC, labels_N, strict=True):
        placed: list[tuple[int, int, int]] = []
        while len(placed) <= label:
            radius = int(rng.randint(3 * _render.UNIT, 8 * _render.UNIT))
            x, y = rng.randint(radius, _render.SIDE * _render.UNIT - radius, size=2).tolist()
            gap = 2 * _render.UNIT
            if any((x - a) ** 2 + (y - b) ** 2 < (radius + r + gap) ** 2 for a, b, r in placed):
                continue
            colour_C = _render.contrasting(rng, image_HWC, x, y)
            _render.draw(
                image_HWC,
                _KINDS[rng.randint(len(_KINDS))],
                x=x,
                y=y,
                radius=radius,
                angle=int(rng.randint(_render.TURN)),
                colour_C=colour_C,
            )
            placed.append((x, y, radius))
    return Images(images_NHWC, labels_N)
