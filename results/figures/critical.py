"""A critical-difference diagram: mean ranks over data sets, and which of them do not differ.

Variants hang on an axis of mean ranks, the best on the left; a thick bar joins those whose ranks
lie within Nemenyi's critical difference of each other. Where Friedman's test finds no difference,
one bar joins all. Only complete variants are ranked. Demsar 2006, JMLR 7, 1-30.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from results._ranking import ALPHA, FEWEST_DATASETS, Ranking, rank
from results.errors import FigureError
from results.figures._drawing import Drawing, Request, unfinished
from results.formats import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIONS: tuple[str, ...] = ()
FEWEST_VARIANTS = 3
_SCALE = 3.4
_LINE = 0.2
"""Inches of the axis, and from one name to the next."""


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[int, int]]:
    """First and last of each largest run of ascending ranks no two of which are further apart.

    Runs of one are none.
    """
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(at for at in range(first, len(ranks)) if ranks[at] - ranks[first] <= distance)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def work_out(request: Request) -> Drawing:
    """The diagram; FigureError where ranks are not tested, with the reason."""
    scores, rows = request.scores, request.board.rows
    whole = [row for row in rows if row.mean is not None]
    if len(whole) < FEWEST_VARIANTS or len(scores.datasets) < FEWEST_DATASETS:
        lacking = "; ".join(unfinished(rows)).replace("not drawn, ", "")
        raise FigureError(
            f"critical: {len(whole)} complete variants on {len(scores.datasets)} data sets given, "
            f"allowed: at least {FEWEST_VARIANTS} on {FEWEST_DATASETS}"
            + (f" ({lacking})" * bool(lacking))
        )
    ranking = _ranking(request, [row.label for row in whole])
    if ranking.p is None or ranking.critical_difference is None:
        raise FigureError(f"critical: {ranking.claim}")
    differ = ranking.p < ALPHA
    groups = cliques(ranking.mean_ranks, ranking.critical_difference) if differ else []
    if not differ:
        groups = [(0, len(whole) - 1)]
    joined = "; ".join(
        ", ".join(map(printable, ranking.variants[first : last + 1])) for first, last in groups
    )
    listed = ", ".join(
        f"{printable(name)} {mean:.3f}"
        for name, mean in zip(ranking.variants, ranking.mean_ranks, strict=True)
    )
    shown_p = f"Friedman p = {ranking.p:.3g}"
    return Drawing(
        title=f"{', '.join(scores.suites)}: mean ranks by {request.metric}",
        says=(
            f"Critical-difference diagram over {len(ranking.datasets)} data sets. Mean ranks, 1 the best: "
            f"{listed}. Critical difference {ranking.critical_difference:.3f}; {shown_p}. Not told apart: "
            f"{joined or 'none'}."
        ),
        columns=("variant", "mean rank", "groups"),
        records=tuple(
            (
                *(name, mean),
                " ".join(str(n) for n, (a, b) in enumerate(groups, 1) if a <= at <= b),
            )
            for at, (name, mean) in enumerate(
                zip(ranking.variants, ranking.mean_ranks, strict=True)
            )
        ),
        remarks=(
            f"mean rank over {len(ranking.datasets)} data sets, 1 is the best; {shown_p}",
            f"CD: Nemenyi's critical difference {ranking.critical_difference:.3f} at {ALPHA}",
            "thick bar: these are not told apart"
            if differ
            else f"no claim: p = {ranking.p:.3g}, needed below {ALPHA}, so one bar joins all",
            *unfinished(rows),
        ),
        size=_size(ranking, len(groups)),
        paint=lambda figure: _paint(figure, ranking, groups),
    )


def _ranking(request: Request, labels: Sequence[str]) -> Ranking:
    scores = request.scores
    every = scores.labels()
    own = []
    for label in labels:
        mine = scores.row_N == every.index(label)
        own.append(
            {
                name: scores.score_N[mine & (scores.dataset_N == at)].tolist()
                for at, name in enumerate(scores.datasets)
            }
        )
    return rank(labels, own, scores.datasets, higher_is_better=scores.higher_is_better)


def _size(ranking: Ranking, groups: int) -> tuple[float, float]:
    from results.figures._style import shown, width_of

    lines = -(-len(ranking.variants) // 2)
    return _SCALE + 2 * width_of(shown(ranking.variants)), 0.75 + _LINE * lines + 0.1 * groups


def _paint(figure: Figure, ranking: Ranking, groups: Sequence[tuple[int, int]]) -> None:
    """The axis is in inches, so that lines of names keep their distance."""
    from results.figures._style import COLOURS, INK, SMALL, shown

    width, height = _size(ranking, len(groups))
    ranks, number = ranking.mean_ranks, len(ranking.variants)
    side = (width - _SCALE) / 2
    axes = figure.add_axes((0, 0, 1, 1))
    _to_fill(figure, axes, width, height)

    def x_of(rank: float) -> float:
        return side + _SCALE * (rank - 1) / (number - 1)

    top = height - 0.55
    axes.plot([side, side + _SCALE], [top] * 2, color=INK, lw=0.8)
    for tick in range(1, number + 1, -(-number // 15)):
        axes.plot([x_of(tick)] * 2, [top, top + 0.06], color=INK, lw=0.8)
        axes.text(x_of(tick), top + 0.08, str(tick), fontsize=SMALL, ha="center", va="bottom")
    assert ranking.critical_difference is not None
    end = min(x_of(1 + ranking.critical_difference), side + _SCALE)
    whole = x_of(1 + ranking.critical_difference) <= side + _SCALE + 1e-9
    axes.plot(
        [side, end], [top + 0.32] * 2, color=INK, lw=1.2, marker="|" if whole else None, gid="cd"
    )
    said = f"CD = {ranking.critical_difference:.2f}" + ("" if whole else " (longer than the axis)")
    axes.text(side, top + 0.38, said, fontsize=SMALL, va="bottom")
    below = top - 0.1 * (len(groups) + 1)
    for at, (first, last) in enumerate(groups):
        ends = [x_of(ranks[first]) - 0.03, x_of(ranks[last]) + 0.03]
        y = top - 0.1 * (at + 1)
        look: dict[str, Any] = {
            "color": COLOURS[1],
            "lw": 3.5,
            "solid_capstyle": "butt",
            "gid": f"group-{at}",
        }
        axes.plot(ends, [y] * 2, **look)
    half = -(-number // 2)
    for at, name in enumerate(shown(ranking.variants)):
        left = at < half
        line = at if left else number - 1 - at
        y = below - _LINE * (line + 0.3)
        x, stop = x_of(ranks[at]), side - 0.1 if left else side + _SCALE + 0.1
        axes.plot([x, x, stop], [top, y, y], color=INK, lw=0.7, gid=f"rank-{at}")
        text = f"{name}  {ranks[at]:.2f}" if left else f"{ranks[at]:.2f}  {name}"
        words: dict[str, Any] = {
            "fontsize": SMALL,
            "va": "center",
            "ha": "right" if left else "left",
        }
        axes.text(stop + (-0.05 if left else 0.05), y, text, **words)


def _to_fill(figure: Figure, axes: Axes, width: float, height: float) -> None:
    """Let the axes fill the room between title and caption, one unit an inch."""
    engine = figure.get_layout_engine()
    assert engine is not None
    rect = np.asarray(engine.get()["rect"])
    figure.set_layout_engine("none")
    axes.set_position((rect[0], rect[1], rect[2], rect[3]))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
