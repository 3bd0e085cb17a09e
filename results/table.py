"""The leaderboard of a suite: a row per variant, a column per data set, and what they sum up to.

Scores are averaged over seeds first, then over data sets, then over groups of data sets: the mean
of a row is the mean of its group means, as VTAB reports it. A mean over data sets stands only
where every planned cell has its score; such rows are ranked among themselves. What was planned
and is not there shows as `n of expected`. See `results.scores` for what makes a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from results import _costs, render, stats
from results._costs import Range, known
from results._rows import Settings
from results.errors import TableError as TableError
from results.scores import Flags, Floats, Scores, equal, load
from results.stats import Interval
from results.store import Store

RESAMPLES = 1000
"""Bootstrap resamples of each row."""


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

    label: str
    """The name by which `compare` knows it."""
    backbone: str
    variant: str
    settings: Settings
    cells: Mapping[str, Cell]
    """By data set; a data set that is not planned for this row has none."""
    runs: int
    """Runs with a score, on all data sets."""
    expected: int
    groups: Mapping[str, float]
    """Mean of the data sets of each group, each counting once; only where all are complete here."""
    mean: float | None
    """Of the group means; None, as the next four, unless all of the table's data sets are complete."""
    interval: Interval | None
    """95 % bootstrap interval of the mean, stratified by data set; None below three seeds, too."""
    iqm: float | None
    """Interquartile mean over all runs."""
    mean_rank: float | None
    """Over data sets, among the rows that have a mean; 1 is the best."""
    wins: int | None
    """Data sets on which no other row that has a mean is better."""
    trainable_params: Range | None
    """Least and most over data sets: the head grows with the classes."""
    adapter_params: Range | None
    trainable_percent: Range | None
    epoch_seconds: float | None
    """Median over runs, as the next; None where no costs compare or devices differ."""
    train_seconds: float | None
    peak_memory_bytes: int | None
    """Most over runs."""
    tuning_runs: int
    """Tuning runs that were spent on the variant, over all data sets."""
    tuning_planned: int
    notes: tuple[str, ...]
    name: str | None = None
    """The label that the suite gave the variant."""


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """The table, best mean first."""

    suites: tuple[str, ...]
    metric: str
    datasets: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    """The data sets of each group; empty where no data set has one."""
    rows: tuple[Row, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the table comes from besides suites and metric: store, versions."""

    def to_text(self, columns: Sequence[str] | None = None, width: int | None = None) -> str:
        """Aligned columns for the terminal; without `columns`, what fits into `width` characters."""
        return render.text(self, columns, width)

    def to_markdown(self, columns: Sequence[str] | None = None) -> str:
        """A Markdown table."""
        return render.markdown(self, columns)

    def to_latex(self, columns: Sequence[str] | None = None) -> str:
        """A LaTeX table; its preamble needs the package booktabs."""
        return render.latex(self, columns)

    def to_csv(self) -> str:
        """Every number unrounded, one line per row."""
        return render.as_csv(self)

    def to_json(self) -> str:
        """Every number unrounded, as one JSON object."""
        return render.as_json(self)


def leaderboard(
    store: Store,
    suite: str | None = None,
    *,
    metric: str = "test/top1",
    provenance: Mapping[str, str] | None = None,
) -> Leaderboard:
    """The leaderboard of a suite, or of all suites together; `metric` is `split/metric`."""
    return board(load(store, suite, metric), provenance)


def board(scores: Scores, provenance: Mapping[str, str] | None = None) -> Leaderboard:
    """The leaderboard of scores that were read before."""
    means_RT, cells = _cells(scores)
    weights_T = stats.group_weights(scores.groups)
    mean_R = means_RT @ weights_T
    whole = np.isfinite(mean_R)
    interval_R2, iqm_R = _over_runs(scores, whole, weights_T)
    rank_R = np.full(len(mean_R), np.nan)
    wins_R = np.zeros(len(mean_R), dtype=np.int64)
    if whole.any():
        better = {"higher_is_better": scores.higher_is_better}
        rank_R[whole] = stats.mean_ranks(means_RT[whole], **better)
        wins_R[whole] = stats.wins(means_RT[whole], **better)
    groups = _members(scores)
    costs = _costs.of_rows(scores)
    rows = [
        Row(
            label=label,
            backbone=key.backbone,
            variant=key.variant,
            settings=key.settings,
            cells=cells[at],
            runs=sum(cell.seeds for cell in cells[at].values()),
            expected=sum(cell.expected for cell in cells[at].values()),
            groups=_group_means(groups, scores.datasets, means_RT[at]),
            mean=known(mean_R[at]),
            interval=None if np.isnan(interval_R2[at, 0]) else Interval(*interval_R2[at].tolist()),
            iqm=known(iqm_R[at]),
            mean_rank=known(rank_R[at]),
            wins=int(wins_R[at]) if whole[at] else None,
            trainable_params=costs[at].trainable_params,
            adapter_params=costs[at].adapter_params,
            trainable_percent=costs[at].trainable_percent,
            epoch_seconds=costs[at].epoch_seconds,
            train_seconds=costs[at].train_seconds,
            peak_memory_bytes=costs[at].peak_memory_bytes,
            tuning_runs=scores.tuning.get((key.backbone, key.variant), (0, 0))[0],
            tuning_planned=scores.tuning.get((key.backbone, key.variant), (0, 0))[1],
            name=scores.names.get(key.variant),
            notes=(*_failures(cells[at]), *costs[at].notes),
        )
        for at, (key, label) in enumerate(zip(scores.keys, scores.labels(), strict=True))
    ]
    # Rows with a mean first; the plan's order stays between equals.
    sign = -1 if scores.higher_is_better else 1
    rows.sort(key=lambda row: float("inf") if row.mean is None else sign * row.mean)
    return Leaderboard(
        suites=scores.suites,
        metric=scores.metric,
        datasets=scores.datasets,
        groups=groups,
        rows=tuple(rows),
        provenance=provenance or {},
    )


def _cells(scores: Scores) -> tuple[Floats, list[dict[str, Cell]]]:
    """The mean of every complete cell (R, T), nan elsewhere, and the cells of each row."""
    rows, datasets = len(scores.keys), len(scores.datasets)
    size = rows * datasets
    cell_N = scores.row_N * datasets + scores.dataset_N
    there = np.isfinite(scores.score_N)
    at, score = cell_N[there], scores.score_N[there]
    expected = np.bincount(cell_N, minlength=size)
    seeds = np.bincount(at, minlength=size)
    failed = np.bincount(cell_N[equal(scores.status, "failed")], minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(at, score, minlength=size) / seeds
        spread = np.bincount(at, (score - mean[at]) ** 2, minlength=size)
        std = np.sqrt(spread / np.where(seeds > 1, seeds - 1, np.nan))
    means_RT = np.where(seeds == expected, mean, np.nan).reshape(rows, datasets)
    columns = (mean, std, seeds, expected, failed)
    cells: list[dict[str, Cell]] = [{} for _ in range(rows)]
    for place, (m, s, n, planned, lost) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        if planned:
            row, dataset = divmod(place, datasets)
            cells[row][scores.datasets[dataset]] = Cell(
                mean=known(m), std=known(s), seeds=n, expected=planned, failed=lost
            )
    return means_RT, cells


def _over_runs(scores: Scores, whole: Flags, weights_T: Floats) -> tuple[Floats, Floats]:
    """Interval (R, 2) and interquartile mean (R) of the rows that are whole; nan elsewhere."""
    rows, datasets = len(scores.keys), len(scores.datasets)
    interval_R2, iqm_R = np.full((rows, 2), np.nan), np.full(rows, np.nan)
    order = np.lexsort((scores.dataset_N, scores.row_N))
    score_N = scores.score_N[order]
    start_R = np.searchsorted(scores.row_N[order], np.arange(rows))
    counts_RT = np.bincount(
        scores.row_N * datasets + scores.dataset_N, minlength=rows * datasets
    ).reshape(rows, datasets)
    chosen = np.flatnonzero(whole)
    # Rows with the same numbers of seeds are resampled together.
    patterns, pattern_of = np.unique(counts_RT[chosen], axis=0, return_inverse=True)
    for number, counts in enumerate(patterns.tolist()):
        alike = chosen[pattern_of.ravel() == number]
        scores_RN = score_N[start_R[alike][:, None] + np.arange(sum(counts))]
        iqm_R[alike] = stats.iqm(scores_RN)
        found = stats.mean_intervals(scores_RN, counts, weights_T, resamples=RESAMPLES)
        if found is not None:
            interval_R2[alike] = found
    return interval_R2, iqm_R


def _members(scores: Scores) -> dict[str, tuple[str, ...]]:
    """The data sets of each group, in the table's order; those without a group make one, too."""
    if not any(scores.groups):
        return {}
    members: dict[str, tuple[str, ...]] = {}
    for group, dataset in zip(scores.groups, scores.datasets, strict=True):
        name = group or "no group"
        members[name] = (*members.get(name, ()), dataset)
    return members


def _group_means(
    groups: Mapping[str, Sequence[str]], datasets: Sequence[str], means_T: Floats
) -> dict[str, float]:
    by_dataset = dict(zip(datasets, means_T.tolist(), strict=True))
    means = {
        name: float(np.mean([by_dataset[dataset] for dataset in members]))
        for name, members in groups.items()
    }
    return {name: mean for name, mean in means.items() if np.isfinite(mean)}


def _failures(cells: Mapping[str, Cell]) -> tuple[str, ...]:
    failed = sum(cell.failed for cell in cells.values())
    return (f"{failed} failed",) if failed else ()
