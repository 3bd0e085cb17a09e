"""What the store's tables become when they are read: one row per run out of many attempts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.schema import RUNS, arrow_schema


def standings(attempts: pa.Table) -> tuple[pa.Array, pa.Array]:
    """For each run, ordered by run_id: the row of its first success, else of its latest attempt.

    And how many attempts the run has. `attempts` has the columns run_id, attempt and status.
    """
    runs = attempts.column("run_id").combine_chunks().dictionary_encode()
    by_name = pc.sort_indices(runs.dictionary).to_numpy().astype(np.int64)
    place = np.empty_like(by_name)
    place[by_name] = np.arange(len(by_name))
    run = place[runs.indices.to_numpy()]
    number = attempts.column("attempt").to_numpy()
    success = pc.equal(attempts.column("status"), "succeeded").to_numpy()
    order = np.lexsort((np.where(success, -number, number), success, run))
    last = np.flatnonzero(np.diff(run[order], append=len(by_name)))
    return pa.array(order[last]), pa.array(np.diff(last, prepend=-1))


def runs_of(attempts: pa.Table) -> pa.Table:
    """The view `runs`, ordered by run_id, with those of its columns that `attempts` has."""
    index, counts = standings(attempts)
    shown = tuple(column for column in RUNS[:-1] if column.name in attempts.column_names)
    chosen = attempts.select([column.name for column in shown]).take(index)
    return pa.Table.from_arrays([*chosen.columns, counts], schema=arrow_schema((*shown, RUNS[-1])))
