"""The leaderboard of a suite: a row per variant, a column per data set, mean and spread of seeds.

Rows come from the latest plan's `single` and `final` cells, so what was planned and is not there
shows as `n of expected`, and a mean over data sets stands only where every cell of the row is
complete. One variant with several configurations on one data set (a grid over learning rates,
say) makes several rows that show the settings in which they differ. Runs whose weights or data
turned out to differ are refused.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results import metrics, render
from results.errors import TableError as TableError
from results.record import PlanRow
from results.store import Store

STAGES = ("single", "final")
_COLUMNS = (
    *("backbone", "weights_digest", "dataset", "data_digest", "select_epoch", "metrics"),
    *("trainable_params", "adapter_params", "trainable_percent", "epoch_seconds", "train_seconds"),
    *("peak_memory_bytes", "cost_comparable", "device", "threads"),
)
Settings = tuple[tuple[str, str], ...]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant on one data set."""

    mean: float | None
    """Over the seeds that have a score; None where none has."""
    std: float | None
    """Sample standard deviation (n - 1); None below two seeds."""
    seeds: int
    """Runs with a score."""
    expected: int
    """Runs planned."""
    failed: int

    @property
    def complete(self) -> bool:
        """Whether every planned run has its score."""
        return self.seeds == self.expected


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant on one backbone, with the settings that tell it from its other rows."""

    backbone: str
    variant: str
    settings: Settings
    cells: Mapping[str, Cell]
    """By data set; a data set that is not planned for this row has none."""
    mean: float | None
    """Over data sets, each counting once; None unless all of the table's are complete here."""
    trainable_params: Range | None
    """Least and most over data sets: the head grows with the classes."""
    adapter_params: Range | None
    trainable_percent: Range | None
    epoch_seconds: float | None
    """Median over runs, as the next; None where no costs compare or devices differ."""
    train_seconds: float | None
    peak_memory_bytes: int | None
    """Most over runs."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The table, best mean first."""

    suites: tuple[str, ...]
    metric: str
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]

    def to_text(self) -> str:
        """Aligned columns for the terminal."""
        return render.text(self)

    def to_markdown(self) -> str:
        """A Markdown table."""
        return render.markdown(self)

    def to_json(self) -> str:
        """Every number unrounded, as one JSON object."""
        return render.as_json(self)


def leaderboard(
    store: Store, suite: str | None = None, *, metric: str = "test/top1"
) -> Leaderboard:
    """The leaderboard of a suite, or of all suites together; `metric` is `split/metric`."""
    higher = metrics.load(metric.rpartition("/")[2]).HIGHER_IS_BETTER
    suites = _suites(store, suite)
    planned = _planned(store, suites)
    runs = _runs(store, {cell.run_id for cell in planned})
    _check_digests(runs.values())
    datasets = tuple(dict.fromkeys(str(cell.dataset) for cell in planned))
    rows = [
        _row(backbone, variant, settings, cells, runs, datasets, metric)
        for (backbone, variant, settings), cells in _groups(planned).items()
    ]
    # Rows with a mean first; the plan's order stays between equals.
    rows.sort(key=lambda r: math.inf if r.mean is None else -r.mean if higher else r.mean)
    return Leaderboard(suites=suites, metric=metric, datasets=datasets, rows=tuple(rows))


def _suites(store: Store, suite: str | None) -> tuple[str, ...]:
    known = store.plans()
    if suite is None and known:
        return tuple(known)
    if suite is None or suite not in known:
        raise TableError(
            f"suite: {suite or 'none'} given, allowed: {', '.join(known) or 'none has a plan yet'} "
            f"(store {store.path})"
        )
    return (suite,)


def _planned(store: Store, suites: Sequence[str]) -> list[PlanRow]:
    """The cells to show, in the plan's order; a run that several suites share counts once."""
    cells: dict[object, PlanRow] = {}
    for suite in suites:
        for cell in store.plan(suite):
            if cell.stage in STAGES:
                cells.setdefault(cell.run_id or (suite, cell.position), cell)
    if not cells:
        raise TableError(f"{', '.join(suites)}: no cell of stage {' or '.join(STAGES)} is planned")
    return list(cells.values())


def _runs(store: Store, wanted: set[str | None]) -> dict[str, dict[str, Any]]:
    rows = store.runs(_COLUMNS).to_pylist(maps_as_pydicts="strict")
    return {row["run_id"]: row for row in rows if row["run_id"] in wanted}


def _check_digests(runs: Iterable[Mapping[str, Any]]) -> None:
    """What stands under one name in a table must be one thing."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for run in runs:
        for name, column in (("backbone", "weights_digest"), ("dataset", "data_digest")):
            digest = run[column]
            if digest is None or run["status"] != "succeeded":
                continue
            known, run_id = seen.setdefault((name, run[name]), (digest, run["run_id"]))
            if known != digest:
                raise TableError(
                    f"{name} {run[name]}: {column} is {known} in run {run_id} and {digest} in run "
                    f"{run['run_id']}; allowed: one, since numbers of different ones do not compare"
                )


def _groups(planned: Iterable[PlanRow]) -> dict[tuple[str, str, Settings], list[PlanRow]]:
    """The cells of each row. A row has at most one configuration per data set."""
    variants: dict[tuple[str, str], list[tuple[PlanRow, dict[str, str]]]] = defaultdict(list)
    for cell in planned:
        variants[str(cell.backbone), str(cell.variant)].append((cell, _settings(cell)))
    groups: dict[tuple[str, str, Settings], list[PlanRow]] = defaultdict(list)
    for (backbone, variant), cells in variants.items():
        differing = _differing(cells)
        for cell, settings in cells:
            shown = tuple((key, settings[key]) for key in differing if key in settings)
            groups[backbone, variant, shown].append(cell)
    return groups


def _differing(cells: Iterable[tuple[PlanRow, dict[str, str]]]) -> list[str]:
    """The settings in which configurations of one variant differ on one and the same data set."""
    values: dict[tuple[str | None, str], set[str | None]] = defaultdict(set)
    by_dataset: dict[str | None, list[dict[str, str]]] = defaultdict(list)
    for cell, settings in cells:
        by_dataset[cell.dataset].append(settings)
    for dataset, all_settings in by_dataset.items():
        for key in {key for settings in all_settings for key in settings}:
            values[dataset, key] = {settings.get(key) for settings in all_settings}
    return sorted({key for (_, key), found in values.items() if len(found) > 1})


def _settings(cell: PlanRow) -> dict[str, str]:
    """All of the cell's science but the seed, by dotted path; `train.` goes without saying."""
    if cell.spec is None:
        return {"config_id": str(cell.config_id)}
    science = {key: value for key, value in json.loads(cell.spec).items() if key != "seed"}
    return {path.removeprefix("train."): text for path, text in _leaves("", science)}


def _leaves(path: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), item)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


def _row(
    backbone: str,
    variant: str,
    settings: Settings,
    planned: Sequence[PlanRow],
    runs: Mapping[str, Mapping[str, Any]],
    datasets: Sequence[str],
    metric: str,
) -> Row:
    done = [run for run in _found(planned, runs) if run["status"] == "succeeded"]
    cells = {}
    for dataset in datasets:
        here = [cell for cell in planned if cell.dataset == dataset]
        if here:
            cells[dataset] = _cell(here, runs, metric)
    means = [cell.mean for cell in cells.values() if cell.complete and cell.mean is not None]
    devices = {(run["device"], run["threads"]) for run in done}
    costs = [run for run in done if run["cost_comparable"] is not False and len(devices) == 1]
    peaks = [run["peak_memory_bytes"] for run in costs if run["peak_memory_bytes"] is not None]
    measured = {run["run_id"]: run for run in done}
    sizes = [measured.get(str(cell.run_id), vars(cell)) for cell in planned]
    return Row(
        backbone=backbone,
        variant=variant,
        settings=settings,
        cells=cells,
        mean=statistics.fmean(means) if len(means) == len(datasets) else None,
        trainable_params=_range(row["trainable_params"] for row in sizes),
        adapter_params=_range(row["adapter_params"] for row in sizes),
        trainable_percent=_range(run["trainable_percent"] for run in done),
        epoch_seconds=_median(run["epoch_seconds"] for run in costs),
        train_seconds=_median(run["train_seconds"] for run in costs),
        peak_memory_bytes=max(peaks, default=None),
        notes=_notes(cells, done, devices),
    )


def _cell(planned: Sequence[PlanRow], runs: Mapping[str, Mapping[str, Any]], metric: str) -> Cell:
    known = _found(planned, runs)
    scores = [
        run["metrics"][metric]
        for run in known
        if run["status"] == "succeeded" and math.isfinite(run["metrics"].get(metric, math.nan))
    ]
    return Cell(
        mean=statistics.fmean(scores) if scores else None,
        std=statistics.stdev(scores) if len(scores) > 1 else None,
        seeds=len(scores),
        expected=len(planned),
        failed=sum(run["status"] == "failed" for run in known),
    )


def _found(
    planned: Iterable[PlanRow], runs: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    return [runs[cell.run_id] for cell in planned if cell.run_id and cell.run_id in runs]


def _notes(
    cells: Mapping[str, Cell], done: Sequence[Mapping[str, Any]], devices: set[Any]
) -> tuple[str, ...]:
    notes = []
    failed = sum(cell.failed for cell in cells.values())
    if failed:
        notes.append(f"{failed} failed")
    if any(run["select_epoch"] == "oracle_test" for run in done):
        notes.append("oracle_test: the epoch was chosen on the test set")
    if len(devices) > 1:
        notes.append("several kinds of device: costs left out")
    elif any(run["cost_comparable"] is False for run in done):
        notes.append("runs whose costs do not compare left out of costs")
    return tuple(notes)


def _range(values: Iterable[float | None]) -> Range | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
