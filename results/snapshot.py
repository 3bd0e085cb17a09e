"""The views of a store at one moment, of which each column is read when it is asked for, and once.

Whoever asks first fixes which attempts there are; what is committed later is left out of every
view. So the views agree with one another, in whatever order their columns are asked for while
runs commit.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from results import evaluations, ordering, schema, views
from results.store import Store

_KEYS = {
    "attempts": ordering.KEYS,
    "epochs": ordering.KEYS,
    "plans": ("suite", "plan"),
    "evaluations": evaluations.KEYS,
}
_NAMING_EPOCHS = (*ordering.KEYS, "epochs_file", "epochs_digest")


class ChangedError(Exception):
    """What was read before cannot be completed any more: all of it is to be read again."""


class Snapshot:
    """Reads one store; any thread may ask. With `whole`, all columns are read at once."""

    def __init__(self, store: Store, *, whole: bool = False) -> None:
        self._store, self._whole = store, whole
        self._lock = threading.RLock()
        self._held: dict[str, pa.Table] = {}
        self._standings: tuple[pa.Array, pa.Array] | None = None

    def view(self, name: str, columns: Collection[str]) -> pa.Table:
        """Those columns of a view of `schema.VIEWS`, in its order.

        ChangedError where rows were lost, or a suite was planned anew, between two columns;
        never where the snapshot is whole.
        """
        with self._lock:
            if name == "runs":
                return self._runs(columns)
            return self._columns(name, columns)

    def _runs(self, columns: Collection[str]) -> pa.Table:
        *own, counted = (column.name for column in schema.RUNS)
        shown = [name for name in own if name in columns]
        attempts = self._columns("attempts", {*ordering.KEYS, "status", *shown})
        if self._standings is None:
            self._standings = views.standings(attempts)
        index, counts = self._standings
        arrays = {name: attempts.column(name).take(index) for name in shown}
        return pa.table({**arrays, counted: counts} if counted in columns else arrays)

    def _columns(self, name: str, columns: Collection[str]) -> pa.Table:
        order = [column.name for column in schema.VIEWS[name] if column.name in columns]
        held = self._held.get(name)
        if held is None and self._whole:
            columns = {column.name for column in schema.VIEWS[name]}
        missing = [c for c in columns if held is None or c not in held.column_names]
        if held is None:
            self._held[name] = self._read(name, missing)
        elif missing:
            keys = _KEYS[name]
            table = self._read(name, missing)
            if not table.select(keys).equals(held.select(keys)):
                raise ChangedError(name)
            for column in missing:
                held = held.append_column(column, table.column(column))
            self._held[name] = held
        return self._held[name].select(order)

    def _read(self, name: str, columns: list[str]) -> pa.Table:
        wanted = [*_KEYS[name], *columns]
        if name == "plans":
            return self._store.plans_table(wanted)
        if name == "evaluations":
            return self._store.evaluations(wanted)
        known = self._held.get("attempts")
        if name == "attempts":
            table = self._store.attempts(wanted)
        else:
            known = self._columns("attempts", _NAMING_EPOCHS)
            table = self._store.epochs(wanted, attempts=known)
        return table if known is None else _only(table, known)


def _only(table: pa.Table, attempts: pa.Table) -> pa.Table:
    """The rows that belong to the attempts."""
    found = ordering.distinct(table)
    if found.equals(attempts.select(ordering.KEYS)):
        return table
    if pc.all(ordering.among(found, attempts)).as_py():
        return table
    return table.filter(ordering.among(table, attempts))
