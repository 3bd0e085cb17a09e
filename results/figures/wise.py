"""WiSE curves: accuracy on shifted sets against accuracy on the own one, from before training to after it.

A line is one variant on one data set; its points are the alphas that `peftgrid evaluate --wise` scored,
means over seeds, with a square at alpha 0 (before training) and a star at alpha 1 (the trained model).
Where there are several shifted sets the first panel has their mean. A variant is drawn where every
planned seed has the same alphas on all sets; the others are named in the caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from results.errors import FigureError
from results.figures._drawing import Drawing, Request
from results.formats import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIONS = ("datasets",)
MEAN = "mean of the shifted sets"
MODE = "all"


class Path(NamedTuple):
    """One variant in one panel; the points are ordered by alpha."""

    label: str
    dataset: str
    panel: str
    alphas: tuple[float, ...]
    own: tuple[float, ...]
    shifted: tuple[float, ...]
    seeds: int


_Scores = dict[tuple[str, float], float]
"""Set and alpha -> score; the own set is called ""."""


def work_out(request: Request) -> Drawing:
    """The paths; FigureError where no variant has one that is complete."""
    from results.figures import _lines

    paths, left_out = _paths(request)
    if not paths:
        why = "; ".join(left_out) or "no run was evaluated"
        raise FigureError(
            f"wise: no variant has a complete path on the own and on a further set ({why}); allowed: after "
            "`peftgrid evaluate SUITE --wise all --on own --on SET`"
        )
    labels = request.scores.labels()
    names = [label for label in labels if any(path.label == label for path in paths)]
    panels = list(dict.fromkeys((path.dataset, path.panel) for path in paths))
    rows = [(panel, chunk) for panel in panels for chunk in _lines.chunks(range(len(names)))]
    return Drawing(
        title=f"{', '.join(request.scores.suites)}: from before training to after it",
        says=_says(paths),
        columns=("variant", "dataset", "set", "alpha", "own", "shifted", "seeds"),
        records=tuple(
            (path.label, path.dataset, path.panel, alpha, own, shifted, path.seeds)
            for path in paths
            for alpha, own, shifted in zip(path.alphas, path.own, path.shifted, strict=True)
        ),
        remarks=tuple(_remarks(paths, left_out)),
        size=_lines.size(names, [chunk for _, chunk in rows], 1),
        paint=lambda figure: _paint(figure, names, rows, paths, request),
    )


def _paths(request: Request) -> tuple[list[Path], list[str]]:
    scores, labels = request.scores, request.scores.labels()
    by_run = _evaluated(request)
    ids = scores.plans["run_id"].to_pylist()
    paths: list[Path] = []
    left_out = []
    for dataset in request.wanted():
        for row, label in enumerate(labels):
            here = (scores.row_N == row) & (scores.dataset_N == scores.datasets.index(dataset))
            runs = [by_run.get(ids[at], {}) for at in np.flatnonzero(here).tolist()]
            if not any(runs):
                continue
            common = set.intersection(*(set(run) for run in runs))
            alphas = tuple(sorted({alpha for _, alpha in common}))
            sets = sorted({name for name, _ in common if name})
            whole = {(name, alpha) for name in ("", *sets) for alpha in alphas}
            if not sets or not whole <= common or {0.0, 1.0} - set(alphas):
                left_out.append(f"{label} on {dataset}")
                continue
            paths += _panels(label, dataset, alphas, sets, runs)
    return paths, left_out


def _evaluated(request: Request) -> dict[str, _Scores]:
    """By run what its path scored."""
    metric = request.metric.rpartition("/")[2]
    columns = ("set", "mode", "alpha", "own", "metrics")
    found: dict[str, _Scores] = {}
    rows = request.store.evaluations(columns).to_pylist(maps_as_pydicts="strict")
    for row in rows:
        if row["mode"] == MODE and metric in (row["metrics"] or {}):
            name = "" if row["own"] else row["set"]
            found.setdefault(row["run_id"], {})[name, row["alpha"]] = row["metrics"][metric]
    return found


def _panels(
    label: str,
    dataset: str,
    alphas: tuple[float, ...],
    sets: Sequence[str],
    runs: Sequence[Mapping[tuple[str, float], float]],
) -> list[Path]:
    def mean(name: str) -> tuple[float, ...]:
        return tuple(float(np.mean([run[name, alpha] for run in runs])) for alpha in alphas)

    own, each = mean(""), {name: mean(name) for name in sets}
    if len(sets) > 1:
        average = np.mean(list(each.values()), axis=0).tolist()
        each = {MEAN: tuple(average)} | each
    return [
        Path(label, dataset, panel, alphas, own, shifted, len(runs))
        for panel, shifted in each.items()
    ]


def _remarks(paths: Sequence[Path], left_out: Sequence[str]) -> list[str]:
    alphas = sorted({len(path.alphas) for path in paths})
    seeds = sorted({path.seeds for path in paths})
    said = [
        "square: alpha 0, before training; star: alpha 1, the trained model",
        f"{' or '.join(map(str, alphas))} points a line, means over {' or '.join(map(str, seeds))} seeds",
    ]
    if left_out:
        said.append(f"not drawn, a path that misses seeds, alphas or sets: {', '.join(left_out)}")
    return said


def _says(paths: Sequence[Path]) -> str:
    lines = []
    for path in paths:
        best = int(np.argmax(path.shifted))
        lines.append(
            f"{printable(path.label)} trained on {printable(path.dataset)}, {printable(path.panel)}: from "
            f"{path.shifted[0]:.4f} (own {path.own[0]:.4f}) to {path.shifted[-1]:.4f} "
            f"(own {path.own[-1]:.4f}), largest {path.shifted[best]:.4f} at alpha {path.alphas[best]:g}."
        )
    return " ".join(lines)


def _paint(
    figure: Figure,
    names: Sequence[str],
    rows: Sequence[tuple[tuple[str, str], Sequence[int]]],
    paths: Sequence[Path],
    request: Request,
) -> None:
    from results.figures import _lines
    from results.figures._style import shown

    panels = list(dict.fromkeys(panel for panel, _ in rows))
    several = len({dataset for dataset, _ in panels}) > 1
    titles = shown([f"{d}: {name}" if several else name for d, name in panels])
    title_of = dict(zip(panels, titles, strict=True))

    def fill(at: int, axes: Axes, _: int, height: float) -> None:
        panel, chunk = rows[at]
        _panel(axes, names, chunk, [p for p in paths if (p.dataset, p.panel) == panel], height)
        axes.set_xlabel(f"{request.metric} on {shown([panel[0]])[0]}")
        axes.set_ylabel(request.axis())

    _lines.paint(
        figure, names, [chunk for _, chunk in rows], [title_of[panel] for panel, _ in rows], 1, fill
    )


def _panel(
    axes: Axes, names: Sequence[str], chunk: Sequence[int], paths: Sequence[Path], height: float
) -> None:
    from results.figures._style import Style, marks_at_ends

    ends = []
    for place, line in enumerate(chunk):
        look = Style.of(place)
        for path in paths:
            if path.label != names[line]:
                continue
            plain = {"color": look.color, "linestyle": look.linestyle}
            axes.plot(path.own, path.shifted, **plain, lw=1.2, marker=".", ms=4, gid=f"wise-{line}")
            for at, marker, size in ((0, "s", 5.0), (-1, "*", 9.0)):
                axes.plot(path.own[at], path.shifted[at], marker=marker, ms=size, color=look.color)
            ends.append((path.own[-1], path.shifted[-1], str(line + 1), look.color))
    axes.margins(0.08)
    axes.grid(True)
    axes.set_ylim(*axes.get_ylim())
    marks_at_ends(axes, ends, height - 0.5)
