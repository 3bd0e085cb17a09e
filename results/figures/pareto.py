"""The metric against a cost, one point per variant, and which variants are worth their cost.

The cost is trainable parameters (head included, on a logarithmic axis), peak memory or seconds of
an epoch. A variant is on the front unless another is at least as cheap and its interval lies
wholly above (below, where lower is better). Where a drawn variant has no interval, the means stand
for intervals and the caption says that the front claims nothing.

Runs whose cost does not compare are left out of memory and seconds and their variants are named;
costs of several kinds of device are never drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from results.errors import FigureError
from results.figures._drawing import Drawing, Request, interval_remarks, no_row, unfinished
from results.formats import printable
from results.scores import equal
from results.stats import MIN_SEEDS, Interval
from results.table import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTIONS = ("against",)
AGAINST = {
    "trainable_params": "trainable parameters, head included",
    "peak_memory_bytes": "peak memory (MiB)",
    "epoch_seconds": "median epoch (seconds)",
}
_NAMED = 10
"""Points that are named themselves; of more each gets a number, and a key has the names."""
_PLOT = (6.6, 4.4)


class Point(NamedTuple):
    """One drawn variant."""

    label: str
    cost: float
    mean: float
    interval: Interval | None
    front: bool


def front(
    costs: Sequence[float],
    means: Sequence[float],
    intervals: Sequence[Interval | None],
    *,
    higher_is_better: bool = True,
) -> list[bool]:
    """Which are on the front: no other is at least as cheap with its interval wholly on the better side.

    Where any interval is None, all means stand for their intervals: one rule for all points.
    """
    known = [interval for interval in intervals if interval is not None]
    spans = known if len(known) == len(intervals) else [Interval(m, m) for m in means]
    if not higher_is_better:
        spans = [Interval(-high, -low) for low, high in spans]
    return [
        not any(
            other <= cost and rival.low > span.high
            for other, rival in zip(costs, spans, strict=True)
        )
        for cost, span in zip(costs, spans, strict=True)
    ]


def work_out(request: Request) -> Drawing:
    """Points, front, and what was left out."""
    against = request.against
    if against not in AGAINST:
        raise FigureError(f"--against: {against!r} given, allowed: {', '.join(AGAINST)}")
    rows = [row for row in request.board.rows if row.mean is not None]
    costs = {row.label: _cost(row, against) for row in rows}
    drawn = [row for row in rows if costs[row.label] is not None]
    if against != "trainable_params":
        _one_device(request, {row.label for row in drawn}, against)
    better = request.scores.higher_is_better
    on_front = front(
        [_known(costs[row.label]) for row in drawn],
        [_known(row.mean) for row in drawn],
        [row.interval for row in drawn],
        higher_is_better=better,
    )
    points = [
        Point(row.label, _known(costs[row.label]), _known(row.mean), row.interval, best)
        for row, best in zip(drawn, on_front, strict=True)
    ]
    claims = all(point.interval for point in points)
    nothing = ""
    if not points:
        nothing = (
            f"no complete variant has a known {against}" if rows else no_row(request.board.rows)
        )
    names = [printable(point.label) for point in points if point.front]
    says = (
        f"Scatter plot of {request.axis()} against {AGAINST[against]} for {len(points)} variants. "
        f"On the front: {', '.join(names) or 'none'}. "
        + " ".join(f"{printable(p.label)}: {p.mean:.4f} at {p.cost:,.6g}." for p in points)
    )
    return Drawing(
        title=f"{', '.join(request.scores.suites)}: {request.metric} against {AGAINST[against]}",
        says=says,
        columns=("variant", against, "mean", "low", "high", "front", "runs", "expected"),
        records=tuple(_records(request, points)),
        remarks=(
            *_remarks(request, drawn, claims),
            *_left_out(request, rows, against),
            *unfinished(request.board.rows),
        ),
        size=_size(points),
        paint=lambda figure: _paint(figure, points, request, claims),
        nothing=nothing,
    )


def _cost(row: Row, against: str) -> float | None:
    if against == "trainable_params":
        return None if row.trainable_params is None else row.trainable_params[1]
    return row.epoch_seconds if against == "epoch_seconds" else row.peak_memory_bytes


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _records(request: Request, points: Sequence[Point]) -> list[tuple[object, ...]]:
    """One per row of the leaderboard; a row that is not drawn has neither mean nor front."""
    by_label = {point.label: point for point in points}
    records: list[tuple[object, ...]] = []
    for row in request.board.rows:
        point = by_label.get(row.label)
        low, high = point.interval if point and point.interval else (None, None)
        mean, best = (point.mean, point.front) if point else (None, None)
        cost = _cost(row, request.against)
        records.append((row.label, cost, mean, low, high, best, row.runs, row.expected))
    return records


def _remarks(request: Request, drawn: Sequence[Row], claims: bool) -> list[str]:
    side = "above" if request.scores.higher_is_better else "below"
    front = f"no other variant is at least as cheap with its interval wholly {side}"
    if drawn and not claims:
        front = f"by the means alone, which claims nothing (an interval needs {MIN_SEEDS} seeds)"
    said = [f"filled: on the front, {front}; hollow: not on it; line: best mean up to that cost"]
    if request.against == "trainable_params":
        said.append("parameters: those of the data set with the most classes")
    else:
        said.append(
            "memory: most over runs" if "memory" in request.against else "seconds: median over runs"
        )
    return said + interval_remarks(drawn)


def _left_out(request: Request, rows: Sequence[Row], against: str) -> list[str]:
    """Which runs and variants are not in the costs, by name."""
    if against == "trainable_params":
        return []
    scores = request.scores
    shared = equal(scores.runs["cost_comparable"].cast("string"), "false")
    shared_N = np.append(shared, False)[scores.run_N] & equal(scores.status, "succeeded")
    lost = np.bincount(scores.row_N, shared_N, minlength=len(scores.keys)).astype(int).tolist()
    count = dict(zip(scores.labels(), lost, strict=True))
    said = []
    if part := [f"{label} ({n} runs)" for label, n in count.items() if n]:
        said.append(f"runs left out, their costs do not compare: {', '.join(part)}")
    missing = [row.label for row in rows if _cost(row, against) is None]
    if missing:
        said.append(f"not drawn, no comparable {against}: {', '.join(missing)}")
    return said


def _one_device(request: Request, labels: set[str], against: str) -> None:
    """FigureError where the costs that would be drawn are of several kinds of device."""
    scores = request.scores
    drawn = np.array([label in labels for label in scores.labels()])[scores.row_N]
    used = np.unique(scores.run_N[drawn & (scores.run_N >= 0)])
    columns = ("status", "cost_comparable", "device", "threads")
    runs = scores.runs.select(columns).take(used).to_pylist()
    kinds = {
        f"{run['device']} with {run['threads']} threads"
        for run in runs
        if run["status"] == "succeeded" and run["cost_comparable"] is not False
    }
    if len(kinds) > 1:
        raise FigureError(
            f"--against: {against} given, which was measured on several kinds of device "
            f"({', '.join(map(printable, sorted(kinds)))}); allowed: trainable_params, "
            "or a suite of one kind"
        )


def _size(points: Sequence[Point]) -> tuple[float, float]:
    if len(points) <= _NAMED:
        return _PLOT
    from results.figures._style import shown, width_of

    return _PLOT[0] + width_of(shown([point.label for point in points])), max(
        _PLOT[1], 0.17 * len(points)
    )


def _paint(figure: Figure, points: Sequence[Point], request: Request, claims: bool) -> None:
    from results.figures._beside import place
    from results.figures._style import COLOURS, FAINT, counts_on_log, key, shown

    names = shown([point.label for point in points])
    marks = names
    if len(points) > _NAMED:
        width, height = _size(points)
        panels = figure.subplots(1, 2, width_ratios=[_PLOT[0], width - _PLOT[0]])
        axes = panels[0]
        marks = [str(number) for number in range(1, len(points) + 1)]
        key(panels[1], [(m, name, None) for m, name in zip(marks, names, strict=True)], height)
    else:
        axes = figure.subplots()
    scale = 2**20 if request.against == "peak_memory_bytes" else 1
    costs = [point.cost / scale for point in points]
    if request.against == "trainable_params" and min(costs) > 0:
        counts_on_log(axes, costs)
    else:
        axes.margins(x=0.1)
    bars = [point.interval or Interval(point.mean, point.mean) for point in points]
    for number, (cost, point) in enumerate(zip(costs, points, strict=True)):
        colour = COLOURS[0] if point.front else FAINT
        if point.interval:
            axes.plot([cost] * 2, point.interval, color=colour, lw=1.0, marker="_", ms=5, zorder=2)
        axes.plot(
            *([cost], [point.mean]),
            linestyle="none",
            marker="o",
            ms=5.5,
            mew=1.1,
            color=colour,
            markerfacecolor=colour if point.front else "white",
            zorder=3,
            gid=f"point-{number}",
        )
    steps = _best_so_far(costs, points, request.scores.higher_is_better)
    look = (0, (4, 2)) if claims else (0, (1, 2))
    axes.plot(
        *steps, drawstyle="steps-post", color=COLOURS[0], lw=0.9, ls=look, zorder=1, gid="best"
    )
    axes.margins(y=0.12)
    axes.grid(True)
    axes.set_xlabel(AGAINST[request.against])
    axes.set_ylabel(request.axis())
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    centres = [(cost, point.mean) for cost, point in zip(costs, points, strict=True)]
    place(figure, axes, centres, marks, bars, list(zip(*steps, strict=True)))


def _best_so_far(
    costs: Sequence[float], points: Sequence[Point], higher: bool
) -> tuple[list[float], list[float]]:
    """Where the best mean at that cost or less changes, cheapest first."""
    sign = 1 if higher else -1
    steps: list[tuple[float, float]] = []
    for cost, mean in sorted(
        ((c, p.mean) for c, p in zip(costs, points, strict=True)),
        key=lambda s: (s[0], -sign * s[1]),
    ):
        if not steps or sign * mean > sign * steps[-1][1]:
            steps.append((cost, mean))
    steps.append((max(costs), steps[-1][1]))
    return [x for x, _ in steps], [y for _, y in steps]
