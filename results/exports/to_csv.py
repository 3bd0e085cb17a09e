"""Two flat CSV files: `runs.csv`, one row per run, and `epochs.csv`, the learning curves.

`runs.csv` has where the plan has the run (`suite`, `stage`, `position`, `selected_from`, `axes.*`)
and then the columns of `peftgrid schema`'s table `runs` under their names, with `attempt`. A map
is spread over columns: `params.rank`, `metrics.test/top1`, `versions.torch`. A run that failed
has its `status`, `failure_kind` and `error`. `epochs.csv` has the columns of the table `epochs`,
for the attempt that stands for the run.

Numbers have their full precision, flags are true and false, times are ISO 8601 in UTC, null is an
empty cell. Text that a spreadsheet would run as a formula (= + - @, tab or line end first) has an
apostrophe in front, except where it is a number; headers are treated the same. In pandas (before
version 3 with `float_precision="round_trip"` as well):

    pd.read_csv("runs.csv", keep_default_na=False, na_values=["", "nan"])
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from results import schema
from results.exports import Progress, _cells
from results.exports._runs import Run, Source

NEEDS: dict[str, str] = {}
_PLAN = ("suite", "stage", "position", "selected_from", "axes")
_MAPS = ("axes", *(column.name for column in schema.RUNS if pa.types.is_map(column.type)))


def export(source: Source, out: Path, progress: Progress) -> int:
    """Write `runs.csv` and `epochs.csv`."""
    rows = [_row(run) for run in source.runs]
    names = (*_PLAN, *(column.name for column in schema.RUNS), "attempt")
    columns = _cells.flat_columns(names, rows)
    columns = [name for name in columns if name not in _MAPS]
    number = _cells.write(out / "runs.csv", columns, map(_cells.flat, rows))

    names = tuple(column.name for column in schema.EPOCHS)
    keys = {key for run in source.runs for key in _metric_names(run)}
    columns = [name for name in names if name != "metrics"]
    columns += [f"metrics.{key}" for key in sorted(keys)]
    curves = (map(_cells.flat, _epochs(run)) for run in progress(source.runs))
    _cells.write(out / "epochs.csv", columns, itertools.chain.from_iterable(curves))
    return number


def how_to_open(out: Path) -> str:
    """What opens the result."""
    return f"any spreadsheet, or pandas.read_csv({str(out / 'runs.csv')!r})"


def _row(run: Run) -> dict[str, Any]:
    plan = {name: getattr(run.cell, name) for name in _PLAN}
    return {**plan, **run.row}


def _epochs(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run.epochs.to_pylist(maps_as_pydicts="strict")
    return rows


def _metric_names(run: Run) -> Iterator[str]:
    for metrics in run.epochs.column("metrics").to_pylist(maps_as_pydicts="strict"):
        if isinstance(metrics, Mapping):
            yield from metrics
