"""Names beside points, where they cover neither points nor each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from numpy.typing import NDArray

from results.figures._style import FAINT, INK, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_AWAY = (6.0, 12.0, 20.0, 30.0, 44.0, 60.0)
"""Points of distance that are tried, near ones first."""
_WAYS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0))
_LEADER = 10.0
"""From this distance on, or where another point is nearer, a line leads to the point."""
_FOREIGN = 15.0
"""What it costs, in points of distance, that a name stands nearer to another point than to its own."""
_REACH = 4.5
"""Half the side of a marker, with some air, in points."""


def place(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    bars: Sequence[tuple[float, float]],
    steps: Sequence[tuple[float, float]],
) -> None:
    """Name each point; the axes have their limits.

    `bars` are the ends of each one's vertical bar, `steps` where a line of steps bends.
    """
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    unit = renderer.points_to_pixels(1.0)
    at = axes.transData.transform(np.asarray(points))
    reach = _REACH * unit
    taken = [_box(x, y, reach, reach) for x, y in at]
    for (x, _), ends in zip(points, bars, strict=True):
        foot, head = axes.transData.transform([(x, ends[0]), (x, ends[1])])
        taken.append(np.array([foot[0] - unit, foot[1], head[0] + unit, head[1]]))
    bends = axes.transData.transform(np.asarray(steps))
    for (x0, y0), (x1, y1) in itertools.pairwise(bends):
        taken.append(np.array([x0, y0 - unit, x1, y0 + unit]))
        taken.append(np.array([x1 - unit, min(y0, y1), x1 + unit, max(y0, y1)]))
    frame = axes.get_window_extent(renderer)
    for (x, y), centre, name in zip(points, at, names, strict=True):
        text = axes.annotate(
            name,
            (x, y),
            (0, 0),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": FAINT, "shrinkA": 1, "shrinkB": 3},
        )
        # The text alone: an annotation's own extent has its leader, too.
        extent = Text.get_window_extent(text, renderer)
        size = extent.width + 3 * unit, extent.height
        best = min(
            itertools.product(_AWAY, _WAYS),
            key=lambda way: _cost(way, centre, _at(centre, way, *size, unit), taken, frame, at),
        )
        away, (right, up) = best
        box = _at(centre, best, *size, unit)
        text.set_horizontalalignment(("right", "center", "left")[right + 1])
        text.set_verticalalignment(("top", "center", "bottom")[up + 1])
        text.set_position((away * right, away * up))
        text.set_in_layout(False)
        text.set_zorder(5)
        taken.append(box)
        assert text.arrow_patch is not None
        text.arrow_patch.set_visible(away >= _LEADER or _nearer(box, centre, at))
        text.arrow_patch.set(zorder=1)


def _at(centre: Floats, way: tuple[float, tuple[int, int]], w: float, h: float, unit: float) -> Any:
    """The box of a text of that size, that way from the point."""
    away, (right, up) = way
    x = centre[0] + away * unit * right + right * w / 2
    y = centre[1] + away * unit * up + up * h / 2
    return _box(x, y, w / 2, h / 2)


def _cost(
    way: tuple[float, tuple[int, int]],
    centre: Floats,
    box: Floats,
    taken: Sequence[Floats],
    frame: Any,
    points: Floats,
) -> float:
    """How bad a place is: what it covers, what leaves the panel, whose it seems, how far it is."""
    covered = sum(_overlap(box, other) for other in taken)
    area = (box[2] - box[0]) * (box[3] - box[1])
    inside = np.array([frame.x0, frame.y0, frame.x1, frame.y1])
    outside = area - _overlap(box, inside)
    seems = _FOREIGN * _nearer(box, centre, points)
    return float((covered + 2 * outside) * 10 + seems + way[0] + 0.5 * _WAYS.index(way[1]))


def _nearer(box: Floats, centre: Floats, points: Floats) -> bool:
    """Whether some point is nearer to the box than the one it belongs to."""
    away = np.maximum(np.maximum(box[:2] - points, points - box[2:]), 0)
    own = np.maximum(np.maximum(box[:2] - centre, centre - box[2:]), 0)
    return bool((np.hypot(*away.T) < np.hypot(*own) - 1e-9).any())


def _overlap(a: Floats, b: Floats) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return float(width * height) if width > 0 and height > 0 else 0.0


def _box(x: float, y: float, half_width: float, half_height: float) -> Floats:
    return np.array([x - half_width, y - half_height, x + half_width, y + half_height])
