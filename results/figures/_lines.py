"""Panels of up to `TOGETHER` numbered lines with a key beside them: curves, ranks and profiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from results.figures._style import TOGETHER, Style, key, shown, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.3, 2.25)
_ALONE = (5.2, 3.2)
"""Inches of a panel, and of one that has no neighbour in its row."""

Paint = Callable[["Axes", Sequence[int], int, float], None]
"""Paints lines by their numbers into the panel of a column; its height in inches."""


def chunks(lines: Sequence[int]) -> list[Sequence[int]]:
    """The lines in parts that share a panel, as equal in size as can be."""
    parts = -(-len(lines) // TOGETHER)
    size = -(-len(lines) // parts)
    return [lines[start : start + size] for start in range(0, len(lines), size)]


def size(names: Sequence[str], rows: Sequence[Sequence[int]], columns: int) -> tuple[float, float]:
    """Width and height of panels in rows, each row with the numbers of its lines."""
    width, height = _ALONE if columns == 1 else _PANEL
    return width * columns + width_of(shown(names)), height * len(rows)


def paint(
    figure: Figure,
    names: Sequence[str],
    rows: Sequence[Sequence[int]],
    titles: Sequence[str],
    columns: int,
    fill: Callable[[int, Axes, int, float], None],
) -> None:
    """Fill panels; `fill` gets the row, the axes, the column and the height in inches."""
    width, height = _ALONE if columns == 1 else _PANEL
    made = shown(names)
    grid = figure.subplots(
        len(rows),
        columns + 1,
        squeeze=False,
        width_ratios=[*([width] * columns), width_of(made)],
    )
    for at, lines in enumerate(rows):
        for column in range(columns):
            fill(at, grid[at, column], column, height)
        if titles[at]:
            grid[at, 0].set_title(titles[at])
        entries = [(str(line + 1), made[line], Style.of(place)) for place, line in enumerate(lines)]
        key(grid[at, columns], entries, height - 0.5)
