"""The scores of a suite's planned cells, as columns: what `table` and `compare` are made of.

Cells are the `single` and `final` ones of the latest plans; what was planned and is not there
is a cell without a score. A *row* is one variant on one backbone; where it has several
configurations on one data set (a grid over learning rates, say), each of them is a row of its
own that shows the settings in which they differ. Runs whose weights, data or group turned out to
differ under one name are refused.

Everything is worked out on whole columns, so that 100,000 runs take less than a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results import metrics
from results._rows import Key, codes, rows
from results.errors import TableError
from results.store import Store

STAGES = ("single", "final")
COLUMNS = (
    *("backbone", "weights_digest", "dataset", "dataset_group", "data_digest", "select_epoch"),
    *("metrics", "trainable_params", "adapter_params", "trainable_percent", "epoch_seconds"),
    *("train_seconds", "peak_memory_bytes", "cost_comparable", "device", "threads"),
)
"""The columns of `runs` that are read."""

_PLANNED = (
    *("suite", "stage", "run_id", "config_id", "variant", "backbone", "dataset", "seed", "spec"),
    *("trainable_params", "adapter_params", "axes"),
)
_ONE = ("run_id", "status", "backbone", "weights_digest", "dataset", "data_digest", "dataset_group")
"""What `_check_one` and `_groups` look at."""
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """N planned cells in R rows on T data sets, in the plan's order."""

    suites: tuple[str, ...]
    metric: str
    higher_is_better: bool
    keys: tuple[Key, ...]
    """R of them."""
    datasets: tuple[str, ...]
    """T of them."""
    groups: tuple[str | None, ...]
    """The group of each data set; None where no run says."""
    row_N: Ints
    dataset_N: Ints
    seed_N: Floats
    """nan where the plan does not know it yet."""
    score_N: Floats
    """nan where the cell has none."""
    status: pa.ChunkedArray
    """Of the cell's run (N); null where it was not attempted."""
    run_N: Ints
    """Place of the cell's run in `runs`; -1 where it was not attempted."""
    plans: pa.Table
    """The planned cells (N)."""
    runs: pa.Table
    tuning: Mapping[tuple[str, str], tuple[int, int]]
    """By backbone and variant: tuning runs that were attempted, and planned ones."""
    names: Mapping[str, str]
    """By variant: the label that its suite gave it; others have none."""

    def labels(self) -> tuple[str, ...]:
        """The name of each row: variant and settings, and the backbone where there are several."""
        several = len({key.backbone for key in self.keys}) > 1
        return tuple(
            " ".join(
                [
                    f"{key.backbone}: {key.variant}" if several else key.variant,
                    *(f"{name}={value}" for name, value in key.settings),
                ]
            )
            for key in self.keys
        )


def load(store: Store, suite: str | None, metric: str) -> Scores:
    """The scores of a suite, or of all suites together; `metric` is `split/metric`."""
    known = store.plans()
    if not known or suite not in (None, *known):
        raise TableError(
            f"suite: {suite or 'none'} given, allowed: {', '.join(known) or 'none has a plan yet'} "
            f"(store {store.path})"
        )
    suites = tuple(known) if suite is None else (suite,)
    return join(store.plans_table(_PLANNED), store.runs(COLUMNS), suites, metric)


def join(plans: pa.Table, runs: pa.Table, suites: Sequence[str], metric: str) -> Scores:
    """The planned cells of `suites` with their runs; TableError where there are none."""
    higher = metrics.load(metric.rpartition("/")[2]).HIGHER_IS_BETTER
    wanted = _among(plans.select(_PLANNED), "suite", suites)
    cells = _once(_among(wanted, "stage", STAGES))
    if not len(cells):
        raise TableError(f"{', '.join(suites)}: no cell of stage {' or '.join(STAGES)} is planned")
    run_N = _places(cells["run_id"], runs["run_id"])
    used = runs.select(_ONE).take(pa.array(np.unique(run_N[run_N >= 0])))
    _check_one(used)
    datasets, dataset_N = codes(cells["dataset"])
    keys, row_N = rows(cells)
    status = runs["status"].take(pa.array(run_N, mask=run_N < 0))
    score_N = numbers(pc.map_lookup(runs["metrics"], metric, "first"), run_N)
    score_N[~(np.isfinite(score_N) & equal(status, "succeeded"))] = np.nan
    named = pc.map_lookup(cells["axes"], "label", "first")
    known = cells["variant"].filter(pc.is_valid(named)).to_pylist()
    tune = _once(_among(wanted, "stage", ["tune"]))
    return Scores(
        suites=tuple(suites),
        metric=metric,
        higher_is_better=higher,
        keys=keys,
        datasets=datasets,
        groups=_groups(used, datasets),
        row_N=row_N,
        dataset_N=dataset_N,
        seed_N=numbers(cells["seed"], np.arange(len(cells))),
        score_N=score_N,
        status=status,
        run_N=run_N,
        plans=cells,
        runs=runs,
        tuning=_tuning(tune, _places(tune["run_id"], runs["run_id"])),
        names=dict(zip(known, named.drop_null().to_pylist(), strict=True)),
    )


def _among(cells: pa.Table, column: str, values: Sequence[str]) -> pa.Table:
    """The cells whose column has one of the values."""
    return _kept(cells, pc.is_in(cells[column], value_set=pa.array(values, pa.string())).to_numpy())


def _kept(cells: pa.Table, keep_N: Flags) -> pa.Table:
    """The cells that are kept; no copy where all are, for their specifications are long."""
    return cells if keep_N.all() else cells.filter(pa.array(keep_N))


def numbers(column: pa.ChunkedArray, places_N: Ints) -> Floats:
    """A column's elements at the given places as float64; nan for null and for place -1."""
    values = column.cast(pa.float64()).to_numpy().astype(np.float64)
    padded: Floats = np.append(values, np.nan)
    return padded[places_N]


def equal(column: pa.ChunkedArray, value: str) -> Flags:
    """Where a column has that value; null has not."""
    found: Flags = pc.equal(column, value).fill_null(False).to_numpy().astype(np.bool_)
    return found


def _once(cells: pa.Table) -> pa.Table:
    """The cells without those whose run stands further up: a run that suites share counts once."""
    _, code = codes(cells["run_id"])
    _, first = np.unique(code, return_index=True)
    keep = np.zeros(len(cells), dtype=np.bool_)
    keep[first] = True
    keep |= pc.is_null(cells["run_id"]).to_numpy()
    return _kept(cells, keep)


def _places(ids: pa.ChunkedArray, among: pa.ChunkedArray) -> Ints:
    """Where each of the ids stands in `among`; -1 where it does not, or is null."""
    found = pc.index_in(ids, value_set=among.combine_chunks(), skip_nulls=True)
    places: Ints = found.fill_null(-1).to_numpy().astype(np.int64)
    return places


def _check_one(runs: pa.Table) -> None:
    """What stands under one name in a table must be one thing."""
    for name, column in (
        ("backbone", "weights_digest"),
        ("dataset", "data_digest"),
        ("dataset", "dataset_group"),
    ):
        known = pc.and_(pc.equal(runs["status"], "succeeded"), pc.is_valid(runs[column]))
        checked = runs.filter(known)
        names, name_code = codes(checked[name])
        values, value_code = codes(checked[column])
        _, first = np.unique(name_code * max(len(values), 1) + value_code, return_index=True)
        seen: dict[int, int] = {}
        for place in sorted(first.tolist()):
            other = seen.setdefault(int(name_code[place]), place)
            if other == place:
                continue
            runs_of = checked["run_id"]
            raise TableError(
                f"{name} {names[name_code[place]]}: {column} is {values[value_code[other]]} in run "
                f"{runs_of[other]} and {values[value_code[place]]} in run {runs_of[place]}; "
                "allowed: one, since numbers of different ones do not compare"
            )


def _groups(runs: pa.Table, datasets: Sequence[str]) -> tuple[str | None, ...]:
    """The group of each data set, which `_check_one` found to be one."""
    known = runs.filter(pc.is_valid(runs["dataset_group"]))
    names, code = codes(known["dataset"])
    _, first = np.unique(code, return_index=True)
    groups = known["dataset_group"].take(pa.array(first)).to_pylist()
    by_name = dict(zip(names, groups, strict=True))
    return tuple(by_name.get(name) for name in datasets)


def _tuning(tune: pa.Table, places: Ints) -> dict[tuple[str, str], tuple[int, int]]:
    backbones, backbone = codes(tune["backbone"])
    variants, variant = codes(tune["variant"])
    code = backbone * len(variants) + variant
    planned = np.bincount(code)
    spent = np.bincount(code[places >= 0], minlength=len(planned))
    return {
        (backbones[key // len(variants)], variants[key % len(variants)]): (
            int(spent[key]),
            int(planned[key]),
        )
        for key in np.flatnonzero(planned).tolist()
    }
