"""Learning curves: a validation metric and the training loss over epochs, per data set.

A line is the mean over the seeds of one variant on one data set, its band the least and the most
of them. Runs that succeeded are drawn, each by the attempt that has its score; where some of the
planned seeds are not among them, the line is thin, without a band, and named with how many there
are. A line ends where the first of its seeds does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.errors import FigureError
from results.figures._drawing import Drawing, Request
from results.formats import printable
from results.scores import Floats, equal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from results.store import Store

OPTIONS = ("datasets",)
_MOST_ROWS = 24
"""Rows of panels in one figure."""


class Curve(NamedTuple):
    """One variant on one data set, one quantity. Shapes: E epochs."""

    row: int
    dataset: str
    quantity: str
    epochs_E: Floats
    mean_E: Floats
    least_E: Floats
    most_E: Floats
    seeds: int
    expected: int


def work_out(request: Request) -> Drawing:
    """The curves; FigureError where no epoch of a finished run is stored, or there are too many."""
    from results.figures import _lines

    scores = request.scores
    metric = request.metric.rpartition("/")[2]
    quantities = (f"val/{metric}", "train/loss")
    wanted = request.wanted()
    curves = [curve for curve in _curves(request, quantities) if curve.dataset in wanted]
    if not curves:
        raise FigureError(
            f"curves: no finished run on {', '.join(map(printable, wanted))} has epochs with "
            f"{' or '.join(quantities)}"
        )
    labels = scores.labels()
    by_panel: list[tuple[str, Sequence[int]]] = []
    for dataset in wanted:
        lines = sorted({curve.row for curve in curves if curve.dataset == dataset})
        by_panel += [(dataset, part) for part in (_lines.chunks(lines) if lines else [])]
    if len(by_panel) > _MOST_ROWS:
        raise FigureError(
            f"curves: {len(wanted)} data sets with {len(labels)} variants given, which are "
            f"{len(by_panel)} rows of panels; allowed: at most {_MOST_ROWS}, with --dataset"
        )
    partial = {
        (curve.row, curve.dataset): f"{curve.seeds} of {curve.expected} seeds"
        for curve in curves
        if curve.seeds < curve.expected
    }
    records = [
        (labels[curve.row], curve.dataset, curve.quantity, curve.seeds, curve.expected, *numbers)
        for curve in curves
        for numbers in zip(
            curve.epochs_E.astype(int).tolist(),
            *(values.tolist() for values in (curve.mean_E, curve.least_E, curve.most_E)),
            strict=True,
        )
    ]
    return Drawing(
        title=f"{', '.join(scores.suites)}: learning curves, {quantities[0]} and {quantities[1]}",
        says=_says(labels, curves),
        columns=(
            *(
                "variant",
                "dataset",
                "quantity",
                "seeds",
                "expected",
                "epoch",
                "mean",
                "least",
                "most",
            ),
        ),
        records=tuple(records),
        remarks=tuple(_remarks(labels, scores.datasets, curves, partial, wanted)),
        size=_lines.size(labels, [lines for _, lines in by_panel], 2),
        paint=lambda figure: _paint(figure, labels, by_panel, curves, quantities),
    )


def _curves(request: Request, quantities: Sequence[str]) -> list[Curve]:
    scores = request.scores
    epochs = _epochs(request.store)
    ids = scores.plans["run_id"].combine_chunks()
    cell_of = pc.index_in(epochs["run_id"], value_set=ids, skip_nulls=True)
    done_N = equal(scores.status, "succeeded")
    cell_E = cell_of.fill_null(-1).to_numpy().astype(np.int64)
    there_E = (cell_E >= 0) & np.append(done_N, False)[cell_E]
    expected = np.bincount(scores.row_N * len(scores.datasets) + scores.dataset_N)
    curves = []
    for quantity in quantities:
        split, _, name = quantity.partition("/")
        value_E = _values(epochs, name)
        use = there_E & equal(epochs["split"], split) & np.isfinite(value_E)
        cell, epoch, value = cell_E[use], epochs["epoch"].to_numpy()[use], value_E[use]
        kind = scores.row_N[cell] * len(scores.datasets) + scores.dataset_N[cell]
        for at in np.unique(kind).tolist():
            here = kind == at
            row, dataset = divmod(at, len(scores.datasets))
            seeds, seed_of = np.unique(cell[here], return_inverse=True)
            numbers, epoch_of = np.unique(epoch[here], return_inverse=True)
            values_SE = np.full((len(seeds), len(numbers)), np.nan)
            values_SE[seed_of, epoch_of] = value[here]
            whole = np.isfinite(values_SE).all(axis=0)
            values_SE = values_SE[:, whole]
            curves.append(
                Curve(
                    row=row,
                    dataset=scores.datasets[dataset],
                    quantity=quantity,
                    epochs_E=numbers[whole].astype(np.float64),
                    mean_E=values_SE.mean(axis=0),
                    least_E=values_SE.min(axis=0),
                    most_E=values_SE.max(axis=0),
                    seeds=len(seeds),
                    expected=int(expected[at]),
                )
            )
    return [curve for curve in curves if len(curve.epochs_E)]


def _epochs(store: Store) -> pa.Table:
    """The epochs of the attempts that stand for their runs."""
    from results import views

    attempts = store.attempts(["run_id", "attempt", "status"])
    chosen = attempts.take(views.standings(attempts)[0])
    epochs = store.epochs()
    ids = chosen["run_id"].combine_chunks()
    place = pc.index_in(epochs["run_id"], value_set=ids, skip_nulls=True)
    return epochs.filter(pc.equal(epochs["attempt"], chosen["attempt"].take(place)))


def _values(epochs: pa.Table, name: str) -> Floats:
    """A quantity of every epoch, from its column or from `metrics`; nan where there is none."""
    flat = name in ("loss", "top1")
    column = epochs[name] if flat else pc.map_lookup(epochs["metrics"], name, "first")
    values: Floats = column.cast(pa.float64()).to_numpy().astype(np.float64)
    return values


def _remarks(
    labels: Sequence[str],
    datasets: Sequence[str],
    curves: Sequence[Curve],
    partial: Mapping[tuple[int, str], str],
    wanted: Sequence[str],
) -> list[str]:
    said = [
        "line: mean over seeds up to the last epoch that all of them have; band: least and most"
    ]
    if partial:
        listed = ", ".join(f"{labels[row]} on {name} ({n})" for (row, name), n in partial.items())
        said.append(f"thin, no band: not all planned seeds have a curve: {listed}")
    if any(curve.seeds == 1 for curve in curves):
        said.append("a single seed has no band")
    shown = {(curve.row, curve.dataset) for curve in curves}
    without = [
        labels[row]
        for row in range(len(labels))
        if not any((row, dataset) in shown for dataset in wanted)
    ]
    if without:
        said.append(f"not drawn, no finished run with epochs: {', '.join(without)}")
    if absent := [name for name in datasets if name not in wanted]:
        said.append(f"data sets left out: {', '.join(absent)}")
    return said


def _says(labels: Sequence[str], curves: Sequence[Curve]) -> str:
    ends = "; ".join(
        f"{printable(labels[curve.row])} on {printable(curve.dataset)}: {curve.quantity} "
        f"{curve.mean_E[0]:.4g} to {curve.mean_E[-1]:.4g} after {int(curve.epochs_E[-1])} epochs"
        for curve in curves
    )
    return f"Learning curves over epochs, first to last: {ends}."


def _paint(
    figure: Figure,
    labels: Sequence[str],
    by_panel: Sequence[tuple[str, Sequence[int]]],
    curves: Sequence[Curve],
    quantities: Sequence[str],
) -> None:
    from results.figures import _lines
    from results.figures._style import shown

    def fill(at: int, axes: Axes, column: int, height: float) -> None:
        dataset, lines = by_panel[at]
        here = [c for c in curves if c.dataset == dataset and c.quantity == quantities[column]]
        # All panels of one data set share their limits, also those with other variants.
        _panel(axes, here, lines, height)
        axes.set_ylabel(quantities[column])
        if at + 1 == len(by_panel) or by_panel[at + 1][0] != dataset:
            axes.set_xlabel("epoch")

    titles = shown(list(dict.fromkeys(dataset for dataset, _ in by_panel)))
    of = dict(zip(dict.fromkeys(dataset for dataset, _ in by_panel), titles, strict=True))
    rows = [lines for _, lines in by_panel]
    _lines.paint(figure, labels, rows, [of[dataset] for dataset, _ in by_panel], 2, fill)


def _panel(axes: Axes, curves: Sequence[Curve], lines: Sequence[int], height: float) -> None:
    from matplotlib.ticker import MaxNLocator

    from results.figures._style import Style, marks_at_ends

    if not curves:
        axes.text(0.5, 0.5, "not stored", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    low = min(float(curve.least_E.min()) for curve in curves)
    high = max(float(curve.most_E.max()) for curve in curves)
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin)
    ends = []
    for curve in curves:
        if curve.row not in lines:
            continue
        look = Style.of(lines.index(curve.row))
        whole = curve.seeds == curve.expected
        if whole and curve.seeds > 1:
            band = (curve.epochs_E, curve.least_E, curve.most_E)
            axes.fill_between(*band, color=look.color, alpha=0.15, lw=0)
        axes.plot(
            *(curve.epochs_E, curve.mean_E),
            **look._asdict(),
            lw=1.2 if whole else 0.6,
            ms=3.5,
            markevery=max(1, len(curve.epochs_E) // 8),
            markerfacecolor=look.color if whole else "white",
            gid=f"curve-{curve.row}-{curve.quantity.replace('/', '-')}",
        )
        mark = str(curve.row + 1)
        if not whole:
            mark += f" ({curve.seeds}/{curve.expected})"
        ends.append((float(curve.epochs_E[-1]), float(curve.mean_E[-1]), mark, look.color))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(True)
    marks_at_ends(axes, ends, height - 0.5)
