"""How alike variants predict on one data set: which images they answer alike, which errors they share.

Two heat maps from stored predictions, every cell with its number, so no colour has to be read. Left the
fraction of the images that two variants give the same class; right the images that both get wrong,
of those that either gets wrong. Numbers are means over the seeds that all drawn variants have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from results.agreement import Agreement, agree
from results.errors import FigureError
from results.figures._drawing import Drawing, Request
from results.formats import printable
from results.scores import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from results.store import Store

OPTIONS = ("datasets",)
_CELL = 0.34
"""Inches of one cell of a map."""
_PANELS = ("same class", "shared errors")


def work_out(request: Request) -> Drawing:
    """The maps; FigureError where not one data set is asked for, or fewer than two can be drawn."""
    scores = request.scores
    wanted = request.wanted()
    if len(wanted) != 1:
        raise FigureError(
            f"data set: {', '.join(map(printable, wanted))} given, allowed: one, named by --dataset"
        )
    drawn, left_out = _rows(request.store, scores, wanted[0])
    labels = scores.labels()
    if len(drawn) < 2:
        raise FigureError(
            f"overlap: {len(drawn)} variants with stored predictions of every planned seed on "
            f"{printable(wanted[0])}, allowed: two or more (`store: {{predictions: ...}}` keeps them)"
        )
    found = agree(request.store, scores, drawn, wanted[0])
    names = found.variants
    return Drawing(
        title=f"{', '.join(scores.suites)}: how alike variants predict on {wanted[0]}",
        says=_says(found),
        columns=("a", "b", "same class", "shared errors"),
        records=tuple(
            (names[i], names[j], found.agreement[i][j], found.shared_errors[i][j])
            for i in range(len(names))
            for j in range(i)
        ),
        remarks=tuple(_remarks(found, [labels[row] for row in left_out])),
        size=_size(names),
        paint=lambda figure: _paint(figure, found),
    )


def _rows(store: Store, scores: Scores, dataset: str) -> tuple[list[int], list[int]]:
    """The rows with predictions of every cell on the data set, and the others that are planned there."""
    held = store.runs(["predictions_file"])
    kept = dict(zip(held["run_id"].to_pylist(), held["predictions_file"].to_pylist(), strict=True))
    ids = scores.plans["run_id"].to_pylist()
    here_N = scores.dataset_N == scores.datasets.index(dataset)
    drawn: list[int] = []
    left_out: list[int] = []
    for row in range(len(scores.keys)):
        cells = np.flatnonzero(here_N & (scores.row_N == row)).tolist()
        if cells:
            has_all = all(kept.get(ids[at]) is not None for at in cells)
            (drawn if has_all else left_out).append(row)
    return drawn, left_out


def _remarks(found: Agreement, left_out: Sequence[str]) -> list[str]:
    seeds = ", ".join(map(str, found.seeds))
    rules = ", ".join(f"{top1:.4f} by {rule}" for rule, top1 in found.ensembles.items())
    said = [
        f"means over seeds {seeds}; {found.images} test images",
        "shared errors: images that both get wrong, of those that either gets wrong",
        f"all of them together: top-1 {rules}; at least one is right on {found.any_right:.4f}",
    ]
    if left_out:
        said.append(f"not drawn, without stored predictions of every seed: {', '.join(left_out)}")
    return said


def _says(found: Agreement) -> str:
    number = len(found.variants)
    names = list(map(printable, found.variants))
    lines = [f"Two {number} by {number} tables of numbers, same class and shared errors."]
    for i, row in enumerate(found.agreement):
        most, j = max((value, j) for j, value in enumerate(row) if j != i)
        lines.append(f"{names[i]} is most like {names[j]}: the same class on {most:.4f}.")
    return " ".join(lines)


def _size(names: Sequence[str]) -> tuple[float, float]:
    from results.figures._style import shown, width_of

    side = _CELL * len(names)
    return 2 * max(side, 0.9) + width_of(shown(names)) + 0.6, side + 0.55


def _paint(figure: Figure, found: Agreement) -> None:
    from results.figures._style import INK, SMALL, shown

    number = len(found.variants)
    panels = figure.subplots(1, 2)
    for axes, name, rows in zip(
        panels, _PANELS, (found.agreement, found.shared_errors), strict=True
    ):
        values = np.array(
            [[np.nan if value is None else value for value in row] for row in rows], dtype=float
        )
        axes.pcolormesh(values, cmap="Greys", vmin=0.0, vmax=1.4, edgecolors="white", lw=1)
        axes.set_title(name)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        for i in range(number):
            for j in range(number):
                value = values[i, j]
                words: dict[str, Any] = {"fontsize": SMALL - 1, "ha": "center", "va": "center"}
                text = "none" if np.isnan(value) else f"{value:.2f}"
                dark = value > 0.7
                axes.text(j + 0.5, i + 0.5, text, color="white" if dark else INK, **words)
        ticks = np.arange(number) + 0.5
        axes.set_xticks(ticks, [str(n) for n in range(1, number + 1)])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    names = [f"{name}  {n}" for n, name in enumerate(shown(found.variants), start=1)]
    panels[0].set_yticks(np.arange(number) + 0.5, names)
    panels[1].set_yticks(np.arange(number) + 0.5, [str(n) for n in range(1, number + 1)])
