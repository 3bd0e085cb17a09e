"""Score against rank: one line per method that was run at several ranks.

A line joins variants that differ in nothing but `rank`. The first panel has the mean over data
sets with its interval, further ones the mean over seeds on each data set. A variant that misses
runs in a panel has no point there and is named in the caption, and so are ranks of several numbers
(`3x8x8`), which have no place on the axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from results import stats
from results.errors import FigureError
from results.figures._drawing import Drawing, Request
from results.formats import printable
from results.stats import MIN_SEEDS, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIONS = ("datasets",)
MEAN = "mean over data sets"


class Point(NamedTuple):
    """One variant in one panel."""

    line: str
    panel: str
    rank: int
    score: float
    interval: Interval | None
    label: str


def work_out(request: Request) -> Drawing:
    """The lines; FigureError where no method has two ranks that are complete."""
    from results.figures import _lines

    scores = request.scores
    wanted = request.wanted()
    of_row, odd = _ranks(request)
    panels = [*([MEAN] if len(wanted) > 1 and not request.datasets else []), *wanted]
    points = [point for panel in panels for point in _points(request, of_row, panel)]
    several = {
        line
        for line in {point.line for point in points}
        if len({point.rank for point in points if point.line == line}) > 1
    }
    points = [point for point in points if point.line in several]
    names = list(dict.fromkeys(line for line, _ in of_row.values() if line in several))
    if not points:
        raise FigureError(
            f"ranks: no method of {', '.join(map(printable, scores.suites))} has complete runs at two or "
            "more ranks; allowed: a suite with a list of ranks, e.g. {name: lora, rank: [4, 8]}"
        )
    chunks = _lines.chunks(range(len(names)))
    rows = [(panel, chunk) for panel in panels for chunk in chunks]
    return Drawing(
        title=f"{', '.join(scores.suites)}: {request.metric} against rank",
        says=_says(request, names, points),
        columns=("method", "panel", "rank", "mean", "low", "high", "variant"),
        records=tuple(
            (p.line, p.panel, p.rank, p.score, *(p.interval or (None, None)), p.label)
            for p in points
        ),
        remarks=tuple(_remarks(request, of_row, several, odd, points, panels)),
        size=_lines.size(names, [chunk for _, chunk in rows], 1),
        paint=lambda figure: _paint(figure, names, rows, points, request.axis()),
    )


def _ranks(request: Request) -> tuple[dict[int, tuple[str, int]], list[str]]:
    """The line and the rank of each row that has one number as rank, and the names of the others.

    A row's rank is that of its runs, so a row without any run has none.
    """
    scores = request.scores
    runs = request.store.runs(["rank"])
    rank_of = dict(zip(runs["run_id"].to_pylist(), runs["rank"].to_pylist(), strict=True))
    ids = scores.plans["run_id"].to_pylist()
    labels = scores.labels()
    found: dict[int, tuple[str, int]] = {}
    odd = []
    for row, label in enumerate(labels):
        mine = {rank_of.get(ids[at]) for at in np.flatnonzero(scores.row_N == row).tolist()}
        ranks = sorted(rank for rank in mine if rank is not None)
        if not ranks:
            continue
        if len(ranks) == 1 and ranks[0].isdecimal():
            found[row] = _without(label, ranks[0]), int(ranks[0])
        else:
            odd.append(label)
    return found, odd


def _without(label: str, rank: str) -> str:
    """The name of a variant without its rank."""
    for text, instead in ((f"[rank={rank}]", ""), (f"[rank={rank},", "["), (f",rank={rank}", "")):
        if text in label:
            return label.replace(text, instead, 1)
    return label


def _points(request: Request, of_row: Mapping[int, tuple[str, int]], panel: str) -> list[Point]:
    scores = request.scores
    by_label = {row.label: row for row in request.board.rows}
    labels = scores.labels()
    points = []
    for row, (line, rank) in of_row.items():
        of = by_label[labels[row]]
        if panel == MEAN:
            if of.mean is not None:
                points.append(Point(line, panel, rank, of.mean, of.interval, of.label))
            continue
        cell = of.cells.get(panel)
        if cell is None or cell.mean is None or not cell.complete:
            continue
        here = (scores.row_N == row) & (scores.dataset_N == scores.datasets.index(panel))
        interval = stats.mean_interval([scores.score_N[here]])
        points.append(Point(line, panel, rank, cell.mean, interval, of.label))
    return sorted(points, key=lambda point: (point.line, point.rank))


def _remarks(
    request: Request,
    of_row: Mapping[int, tuple[str, int]],
    several: set[str],
    odd: Sequence[str],
    points: Sequence[Point],
    panels: Sequence[str],
) -> list[str]:
    said = []
    if any(point.interval for point in points):
        said.append("bars: 95 % percentile bootstrap of the mean, seeds drawn within each data set")
    if bare := list(dict.fromkeys(point.label for point in points if not point.interval)):
        which = "" if all(not point.interval for point in points) else f" of {', '.join(bare)}"
        said.append(f"no interval{which}: it needs {MIN_SEEDS} seeds")
    labels = request.scores.labels()
    drawn = {(point.label, point.panel) for point in points}
    lacking = [
        f"{labels[row]} ({panel})"
        for row, (line, _) in of_row.items()
        if line in several
        for panel in panels
        if (labels[row], panel) not in drawn
    ]
    if lacking:
        said.append(f"no point, incomplete: {', '.join(lacking)}")
    alone = [labels[row] for row, (line, _) in of_row.items() if line not in several]
    if alone:
        said.append(f"not drawn, one complete rank only: {', '.join(alone)}")
    if odd:
        said.append(f"not drawn, its rank is not one number: {', '.join(odd)}")
    known = {*of_row, *(at for at, label in enumerate(labels) if label in odd)}
    if none := [label for at, label in enumerate(labels) if at not in known]:
        said.append(f"not drawn, without a rank or without a run: {', '.join(none)}")
    return said


def _says(request: Request, names: Sequence[str], points: Sequence[Point]) -> str:
    lines = []
    for name in names:
        for panel in dict.fromkeys(point.panel for point in points):
            mine = [p for p in points if (p.line, p.panel) == (name, panel)]
            listed = ", ".join(f"{p.score:.4f} at rank {p.rank}" for p in mine)
            if listed:
                lines.append(f"{printable(name)}, {printable(panel)}: {listed}.")
    return f"Lines of {request.axis()} against rank. " + " ".join(lines)


def _paint(
    figure: Figure,
    names: Sequence[str],
    rows: Sequence[tuple[str, Sequence[int]]],
    points: Sequence[Point],
    axis: str,
) -> None:
    from results.figures import _lines
    from results.figures._style import shown

    made = shown(list(dict.fromkeys(panel for panel, _ in rows)))
    title_of = dict(zip(dict.fromkeys(panel for panel, _ in rows), made, strict=True))

    def fill(at: int, axes: Axes, _: int, height: float) -> None:
        panel, chunk = rows[at]
        _panel(axes, names, chunk, [point for point in points if point.panel == panel], height)
        axes.set_ylabel(axis)
        axes.set_xlabel("rank")

    titles = [title_of[panel] for panel, _ in rows]
    _lines.paint(figure, names, [chunk for _, chunk in rows], titles, 1, fill)


def _panel(
    axes: Axes, names: Sequence[str], chunk: Sequence[int], points: Sequence[Point], height: float
) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    from results.figures._style import Style, marks_at_ends

    if not points:
        axes.text(0.5, 0.5, "none complete", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    ranks = sorted({point.rank for point in points})
    spans = [point.interval or Interval(point.score, point.score) for point in points]
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    margin = 0.06 * (high - low) or 0.05
    axes.set_xscale("log", base=2)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(ranks[0] / 1.2, ranks[-1] * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(ranks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ends = []
    for place, line in enumerate(chunk):
        mine = [point for point in points if point.line == names[line]]
        if not mine:
            continue
        look = Style.of(place)
        for point in mine:
            if point.interval:
                axes.plot(
                    [point.rank] * 2, point.interval, color=look.color, lw=1, marker="_", ms=4
                )
        xy = [point.rank for point in mine], [point.score for point in mine]
        axes.plot(*xy, **look._asdict(), lw=1.2, ms=4.5, gid=f"ranks-{line}")
        ends.append((float(mine[-1].rank), mine[-1].score, str(line + 1), look.color))
    axes.grid(True)
    marks_at_ends(axes, ends, height - 0.5)
