"""What the store's tables become when they are read: one row per run out of many attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from results.schema import RUNS, arrow_schema


@dataclass(frozen=True, slots=True)
class Standing:
    """Which of a run's attempts stands for it."""

    index: int
    """Row in the table of attempts."""
    attempts: int
    """How many attempts the run has."""


def standings(attempts: pa.Table) -> dict[str, Standing]:
    """For each run its first success, else its latest attempt. Needs run_id, attempt and status."""
    best: dict[str, tuple[tuple[bool, int], int]] = {}
    counts: dict[str, int] = {}
    run_ids: Sequence[str] = attempts.column("run_id").to_pylist()
    numbers: Sequence[int] = attempts.column("attempt").to_pylist()
    statuses: Sequence[str] = attempts.column("status").to_pylist()
    for index, (run_id, n, status) in enumerate(zip(run_ids, numbers, statuses, strict=True)):
        counts[run_id] = counts.get(run_id, 0) + 1
        success = status == "succeeded"
        rank = (success, -n if success else n)
        if run_id not in best or rank > best[run_id][0]:
            best[run_id] = rank, index
    return {run_id: Standing(best[run_id][1], counts[run_id]) for run_id in sorted(best)}


def runs_of(attempts: pa.Table) -> pa.Table:
    """The view `runs`, ordered by run_id, with those of its columns that `attempts` has."""
    standing = standings(attempts).values()
    chosen = attempts.take(pa.array([row.index for row in standing], type=pa.int64()))
    counts = pa.array([row.attempts for row in standing], type=pa.int64())
    shown = tuple(column for column in RUNS[:-1] if column.name in attempts.column_names)
    arrays = [*(chosen.column(column.name) for column in shown), counts]
    return pa.Table.from_arrays(arrays, schema=arrow_schema((*shown, RUNS[-1])))
