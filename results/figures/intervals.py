"""A forest plot: the mean of every variant with its interval, the best first.

A variant that misses runs has its line, with how many it has in place of a mean. Below three
seeds there is no interval: the marker is hollow and the caption has the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from results.errors import FigureError
from results.figures._drawing import Drawing, Request, interval_remarks, lacks, no_row
from results.formats import printable
from results.table import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTIONS: tuple[str, ...] = ()
_PLOT = 3.6
_VALUE = 1.35
"""Inches of the plot, and of the column of numbers beside it."""


def work_out(request: Request) -> Drawing:
    """The rows of the leaderboard; FigureError where none is complete."""
    rows = request.board.rows
    whole = [row for row in rows if row.mean is not None]
    if not whole:
        raise FigureError(f"intervals: {no_row(rows)}")
    records = [
        (row.label, row.mean, *(row.interval or (None, None)), row.runs, row.expected)
        for row in rows
    ]
    remarks = ["mean: over seeds, then data sets" + _groups(request), *interval_remarks(rows)]
    if any(row.interval is None for row in whole):
        remarks.append("hollow: without an interval")
    if len(whole) < len(rows):
        remarks.append("without a mean: what misses runs, with how many it has")
    return Drawing(
        title=f"{', '.join(request.scores.suites)}: mean {request.metric} by variant",
        says=(
            f"Forest plot of mean {request.axis()} over {len(request.board.datasets)} data sets, best "
            f"first: {'; '.join(f'{printable(row.label)} {value_of(row)}' for row in rows)}."
        ),
        columns=("variant", "mean", "low", "high", "runs", "expected"),
        records=tuple(records),
        remarks=tuple(remarks),
        size=_size(rows),
        paint=lambda figure: _paint(figure, rows, request.axis()),
    )


def value_of(row: Row) -> str:
    """The number beside a row."""
    if row.mean is None:
        return f"incomplete: {lacks(row)}"
    if row.interval is None:
        return f"{row.mean:.4f}"
    return f"{row.mean:.4f} [{row.interval.low:.4f}, {row.interval.high:.4f}]"


def _groups(request: Request) -> str:
    return ", then groups" if len(request.board.groups) > 1 else ""


def _size(rows: Sequence[Row]) -> tuple[float, float]:
    from results.figures._style import shown, width_of

    names = width_of(shown([row.label for row in rows]))
    return names + _PLOT + _VALUE, 0.55 + 0.21 * len(rows)


def _paint(figure: Figure, rows: Sequence[Row], axis: str) -> None:
    from results.figures._style import COLOURS, FAINT, INK, SMALL, shown

    axes = figure.subplots()
    for y, row in enumerate(rows):
        text = axes.text(
            *(1.03, y, value_of(row)),
            transform=axes.get_yaxis_transform(),
            fontsize=SMALL,
            va="center",
            color=INK if row.mean is not None else FAINT,
            style="normal" if row.mean is not None else "italic",
        )
        text.set_gid(f"value-{y}")
        if row.mean is None:
            continue
        if row.interval:
            axes.plot(row.interval, [y] * 2, color=COLOURS[0], lw=1.4, marker="|", ms=5)
        face = COLOURS[0] if row.interval else "white"
        axes.plot(
            *([row.mean], [y]),
            linestyle="none",
            marker="o",
            ms=5,
            color=COLOURS[0],
            markerfacecolor=face,
            gid=f"mean-{y}",
        )
    axes.set_yticks(range(len(rows)), shown([row.label for row in rows]))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.06)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="both")
    axes.set_xlabel(axis)
