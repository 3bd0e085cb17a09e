"""What the rows of a table cost: parameters, seconds and memory, over the runs of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results._rows import codes
from results.scores import Flags, Floats, Ints, Scores, equal, numbers

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one row."""

    trainable_params: Range | None
    adapter_params: Range | None
    trainable_percent: Range | None
    epoch_seconds: float | None
    train_seconds: float | None
    peak_memory_bytes: int | None
    notes: tuple[str, ...]
    """What was left out and why, and what makes the row's scores incomparable."""


def of_rows(scores: Scores) -> list[Costs]:
    """The costs of each row. Seconds and memory of several kinds of device are left out."""
    runs, cells, row_N = scores.runs, scores.plans, scores.row_N
    rows = _Rows(row_N, len(scores.keys))
    done = equal(scores.status, "succeeded")
    device = np.where(done, numbers(_devices(runs), scores.run_N), np.nan)
    several = rows.least(device) < rows.most(device)
    shared = done & _flag(runs["cost_comparable"], False, scores.run_N)
    comparable = done & ~shared & ~several[row_N]
    measured = {
        name: np.where(comparable, numbers(runs[name], scores.run_N), np.nan)
        for name in ("epoch_seconds", "train_seconds", "peak_memory_bytes")
    }
    every = np.arange(len(cells))
    sizes = {
        name: np.where(done, numbers(runs[name], scores.run_N), numbers(cells[name], every))
        for name in ("trainable_params", "adapter_params")
    }
    percent = np.where(done, numbers(runs["trainable_percent"], scores.run_N), np.nan)
    spans = {
        name: list(zip(rows.least(values).tolist(), rows.most(values).tolist(), strict=True))
        for name, values in (*sizes.items(), ("percent", percent))
    }
    oracle = done & _flag(runs["select_epoch"], "oracle_test", scores.run_N)
    epoch, train = (rows.median(measured[name]) for name in ("epoch_seconds", "train_seconds"))
    peak = rows.most(measured["peak_memory_bytes"])
    cheats, mixed = rows.any(oracle), rows.any(shared)
    return [
        Costs(
            trainable_params=_whole(spans["trainable_params"][row]),
            adapter_params=_whole(spans["adapter_params"][row]),
            trainable_percent=_range(spans["percent"][row]),
            epoch_seconds=known(epoch[row]),
            train_seconds=known(train[row]),
            peak_memory_bytes=None if np.isnan(peak[row]) else int(peak[row]),
            notes=_notes(bool(cheats[row]), bool(several[row]), bool(mixed[row])),
        )
        for row in range(len(scores.keys))
    ]


def known(value: float) -> float | None:
    """The number; None for nan."""
    return None if np.isnan(value) else float(value)


class _Rows:
    """Reductions of N values to R rows that pass over nan; every row has a value or nan."""

    def __init__(self, row_N: Ints, rows: int) -> None:
        self._row_N = row_N
        self._order = np.argsort(row_N, kind="stable")
        self._starts = np.searchsorted(row_N[self._order], np.arange(rows))

    def least(self, values_N: Floats) -> Floats:
        return np.asarray(np.fmin.reduceat(values_N[self._order], self._starts))

    def most(self, values_N: Floats) -> Floats:
        return np.asarray(np.fmax.reduceat(values_N[self._order], self._starts))

    def median(self, values_N: Floats) -> Floats:
        ordered = values_N[np.lexsort((values_N, self._row_N))]
        there = np.add.reduceat(np.isfinite(values_N[self._order]), self._starts, dtype=np.int64)
        # nan stands last, so a row's numbers lie between its start and how many they are.
        low = self._starts + np.maximum(there - 1, 0) // 2
        high = self._starts + there // 2
        return np.where(
            there > 0, (ordered[low] + ordered[np.minimum(high, len(ordered) - 1)]) / 2, np.nan
        )

    def any(self, flags_N: Flags) -> Flags:
        return np.asarray(np.logical_or.reduceat(flags_N[self._order], self._starts))


def _devices(runs: pa.Table) -> pa.ChunkedArray:
    """A number for each kind of device and count of threads; unknown is a kind of its own."""
    _, device = codes(runs["device"])
    _, threads = codes(runs["threads"])
    return pa.chunked_array([pa.array(device * (threads.max(initial=0) + 1) + threads)])


def _flag(column: pa.ChunkedArray, value: str | bool, run_N: Ints) -> Flags:
    """Whether the column of the cell's run has that value."""
    found = np.append(pc.equal(column, value).fill_null(False).to_numpy().astype(np.bool_), False)
    return np.asarray(found[run_N])


def _range(span: tuple[float, float]) -> Range | None:
    return None if np.isnan(span[0]) else span


def _whole(span: tuple[float, float]) -> Range | None:
    return None if np.isnan(span[0]) else (int(span[0]), int(span[1]))


def _notes(oracle: bool, several: bool, shared: bool) -> tuple[str, ...]:
    notes = []
    if oracle:
        notes.append("oracle_test: the epoch was chosen on the test set")
    if several:
        notes.append("several kinds of device: costs left out")
    elif shared:
        notes.append("runs whose costs do not compare left out of costs")
    return tuple(notes)
