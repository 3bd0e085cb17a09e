"""Orientation: which of 16 ways a dart points (as in dSprites-orientation, with distractors).

One dart among up to four small discs and squares, which may hide a part of it; class 0 points right
and the classes go round counter-clockwise, 22.5 degrees each. Drawn when loaded, in about a second;
the same bits on every machine.
"""

from __future__ import annotations

import numpy as np

from adapters.data import _render
from adapters.data.contract import Images, Splits
from adapters.data.splits import SplitConfig, carve

GROUP = "structured"
CLASSES = 16
DIGEST = "9eff76cdd7ea0fe42cf239b290a63b6a809b578bb0498696dc94e33ddf0d44cb"
SEMANTICS = 1
Config = SplitConfig
_KINDS: tuple[_render.Kind, ...] = ("circle", "square")
_BIN = _render.TURN // CLASSES
_JITTER = _BIN // 2 - 2
"""Angles keep away from the border of their class, so that no image lies between two."""


def missing() -> str | None:
    """Never missing: the images are drawn."""
    return None


def load(config: SplitConfig) -> Splits:
    """Draw both pools and split them."""
    return carve(_pool(seed=301, count=1200), _pool(seed=302, count=1000), config, CLASSES)


def _pool(*, seed: int, count: int) -> Images:
    rng = np.random.RandomState(seed)
    labels_N = _render.labels(rng, count, CLASSES)
    images_NHWC = _render.backgrounds(rng, count)
    for image_HWC, label in zip(images_NHWC, labels_N.tolist(), strict=True):
        angle = label * _BIN + int(rng.randint(-_JITTER, _JITTER + 1))
        _place(rng, image_HWC, "dart", radius=(10, 17), angle=angle)
        for _ in range(rng.randint(5)):
            kind = _KINDS[rng.randint(len(_KINDS))]
            _place(rng, image_HWC, kind, radius=(2, 5), angle=int(rng.randint(_render.TURN)))
    return Images(images_NHWC, labels_N)


def _place(
    rng: np.random.RandomState,
    image_HWC: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    kind: _render.Kind,
    *,
    radius: tuple[int, int],
    angle: int,
) -> None:
    """Draw a shape somewhere inside the image; `radius` is the range to draw from, in pixels."""
    size = int(rng.randint(radius[0] * _render.UNIT, radius[1] * _render.UNIT))
    x, y = rng.randint(size, _render.SIDE * _render.UNIT - size, size=2).tolist()
    colour_C = _render.contrasting(rng, image_HWC, x, y)
    _render.draw(image_HWC, kind, x=x, y=y, radius=size, angle=angle, colour_C=colour_C)
