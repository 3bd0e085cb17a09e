"""Drawing simple coloured shapes on varied backgrounds, for the rendered data sets.

Everything is whole numbers: positions in eighths of a pixel, sines from a table of 1/4096, coverage
counted on 4 x 4 points in each pixel, colours blended in 1/16. With numpy's frozen `RandomState`
stream the images are therefore the same bits on every machine.

Shape suffixes: N images, H rows, W columns, P pixels, C channels, G grid points, S sample points, V
vertices.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SIDE = 56
"""Width and height of an image, in pixels."""
UNIT = 8
"""Positions and sizes are given in 1/UNIT of a pixel."""
TURN = 256
"""Angles are given in 1/TURN of a full turn, counter-clockwise from the right."""

Kind = Literal["circle", "square", "triangle", "dart"]
_SAMPLES = 4
_ONE = 4096
_SINES = [round(_ONE * math.sin(2 * math.pi * i / TURN)) for i in range(TURN)]
_GRID = 5
_NOISE = 10
# Corners on a circle of radius 1 (in 1/_ONE), counter-clockwise where y points up; the dart's tip
# is the first.
_CORNERS = {
    "square": [(2896, 2896), (-2896, 2896), (-2896, -2896), (2896, -2896)],
    "triangle": [(4096, 0), (-2048, 3547), (-2048, -3547)],
    "dart": [(4096, 0), (-3547, 2048), (-3547, -2048)],
}


def labels(rng: np.random.RandomState, count: int, classes: int) -> NDArray[np.int64]:
    """Labels 0..classes-1 in equal numbers (to one), in random order."""
    return rng.permutation(np.arange(count) % classes).astype(np.int64)


def backgrounds(rng: np.random.RandomState, count: int) -> NDArray[np.uint8]:
    """Soft random colour fields with pixel noise, (N, H, W, C)."""
    base_NC = rng.randint(40, 216, size=(count, 1, 3))
    grid_NGC = np.clip(base_NC + rng.randint(-40, 41, size=(count, _GRID**2, 3)), 0, 255)
    # Bilinear interpolation between the grid points, weights in 1/64. Whole numbers in float64:
    # exact, and fast.
    place_H = np.arange(SIDE) * (_GRID - 1) * 64 // (SIDE - 1)
    weight_Hg = np.maximum(64 - np.abs(place_H[:, None] - 64 * np.arange(_GRID)), 0)
    weight_PG = np.kron(weight_Hg, weight_Hg).astype(np.float64)
    field_NPC = (weight_PG @ grid_NGC.astype(np.float64)).astype(np.int32) // 64**2
    field_NHWC = field_NPC.reshape(count, SIDE, SIDE, 3)
    noise_NHWC = rng.randint(-_NOISE, _NOISE + 1, size=field_NHWC.shape, dtype=np.int16)
    image_NHWC: NDArray[np.uint8] = np.clip(field_NHWC + noise_NHWC, 0, 255).astype(np.uint8)
    return image_NHWC


def contrasting(
    rng: np.random.RandomState, image_HWC: NDArray[np.uint8], x: int, y: int
) -> NDArray[np.int64]:
    """A random colour that stands out from the image at (x, y): the farthest of four."""
    candidates_4C = rng.randint(0, 256, size=(4, 3))
    there_C = image_HWC[y // UNIT, x // UNIT].astype(np.int64)
    farthest: NDArray[np.int64] = candidates_4C[np.abs(candidates_4C - there_C).sum(1).argmax()]
    return farthest


def draw(
    image_HWC: NDArray[np.uint8],
    kind: Kind,
    *,
    x: int,
    y: int,
    radius: int,
    angle: int,
    colour_C: NDArray[np.int64],
) -> None:
    """Paint one shape with smooth edges into the image. `radius` is that of the circle around the shape."""
    left, right = max((x - radius) // UNIT, 0), min((x + radius) // UNIT + 1, SIDE)
    top, bottom = max((y - radius) // UNIT, 0), min((y + radius) // UNIT + 1, SIDE)
    x_S = _points(left, right) - x
    y_S1 = (y - _points(top, bottom))[:, None]  # y points up
    if kind == "circle":
        inside_SS = x_S**2 + y_S1**2 <= radius**2
    else:
        sin, cos = _SINES[angle % TURN], _SINES[(angle + TURN // 4) % TURN]
        corners_V = [
            (radius * (cos * a - sin * b) // _ONE**2, radius * (sin * a + cos * b) // _ONE**2)
            for a, b in _CORNERS[kind]
        ]
        inside_SS = np.ones((len(y_S1), len(x_S)), bool)
        for (ax, ay), (bx, by) in zip(corners_V, corners_V[1:] + corners_V[:1], strict=True):
            inside_SS &= (bx - ax) * (y_S1 - ay) - (by - ay) * (x_S - ax) >= 0
    covered_HW1 = inside_SS.reshape(bottom - top, _SAMPLES, right - left, _SAMPLES).sum((1, 3))[
        ..., None
    ]
    area_HWC = image_HWC[top:bottom, left:right]
    full = _SAMPLES**2
    area_HWC[...] = (area_HWC * (full - covered_HW1) + colour_C * covered_HW1 + full // 2) // full


def _points(start: int, end: int) -> NDArray[np.int64]:
    """The sample points of the pixels `start` to `end`, in 1/UNIT of a pixel."""
    step = UNIT // _SAMPLES
    return np.arange(start * UNIT + step // 2, end * UNIT, step)
