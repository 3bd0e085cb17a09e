"""The order of the store's rows, by run and attempt, and which rows belong to which attempts.

Everything here works on columns: a store of 100,000 runs has millions of epochs.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KEYS = ("run_id", "attempt")


def merged(base: pa.Table, tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all tables by run and attempt; `base` is in that order, each other is of one attempt."""
    base = base.combine_chunks()
    runs, numbers = (base.column(name) for name in KEYS)
    pieces, done = [base.slice(0, 0)], 0
    for key, table in sorted(((_first(t), t) for t in tables if len(t)), key=lambda item: item[0]):
        place = bisect.bisect_right(
            range(len(base)), key, lo=done, key=lambda n: (runs[n].as_py(), numbers[n].as_py())
        )
        pieces += [base.slice(done, place - done), table] if place > done else [table]
        done = place
    return pa.concat_tables([*pieces, base.slice(done)]).combine_chunks()


def _first(table: pa.Table) -> tuple[str, int]:
    return table.column("run_id")[0].as_py(), table.column("attempt")[0].as_py()


def distinct(table: pa.Table) -> pa.Table:
    """The attempts that the rows of a table belong to, each once; all rows of one stand together."""
    keys = table.select(KEYS).combine_chunks()
    if not len(keys):
        return keys
    changes = np.zeros(len(keys), dtype=bool)
    changes[0] = True
    for name in KEYS:
        column = keys.column(name)
        changed = pc.not_equal(column.slice(1), column.slice(0, len(keys) - 1))
        changes[1:] |= changed.to_numpy()
    return keys.filter(pa.array(changes))


def among(table: pa.Table, keys: pa.Table) -> pa.ChunkedArray:
    """For each row of a table whether its attempt is one of `keys`."""
    return pc.is_in(_joined(table), value_set=_joined(keys).combine_chunks())


def _joined(table: pa.Table) -> pa.ChunkedArray:
    number = table.column("attempt").cast(pa.string())
    # No run_id holds a full stop, so no two attempts give the same text.
    return pc.binary_join_element_wise(table.column("run_id"), number, ".")
