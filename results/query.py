"""SQL over a store: exactly one SELECT over the views of `schema.VIEWS`, by DuckDB.

The statement comes from a person, the answers must not depend on trust in it. pyarrow reads the
store and hands DuckDB, in a database in memory, the columns that it asks for, so the statement
needs no file at all: access to files, network and extensions is off, Python variables are out of
reach, the settings are locked, and time and memory have limits. The one statement must be of type
SELECT, because EXPLAIN ANALYZE, PRAGMA and COPY can all wrap effects.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
from pyarrow import dataset

from results import schema
from results.errors import QueryError as QueryError
from results.snapshot import ChangedError, Snapshot
from results.store import Store

_SANDBOX: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}


def query(
    store: Store, sql: str, *, time_limit_s: float = 60.0, memory_limit: int = 1 << 30
) -> pa.Table:
    """The answer to one SELECT. `memory_limit` (bytes) bounds DuckDB's memory and the answer.

    What does not fit in memory spills to a private folder, up to four times the limit.
    """
    try:
        return _query(Snapshot(store), sql, time_limit_s, memory_limit)
    except ChangedError:
        return _query(Snapshot(store, whole=True), sql, time_limit_s, memory_limit)


def relation(
    store: Store, view: str, connection: duckdb.DuckDBPyConnection | None = None
) -> duckdb.DuckDBPyRelation:
    """A view of the store as a DuckDB relation, of which only the columns in use are read.

    It shows the store as it is when it is first used, and stays so. Without a connection it gets
    one of its own, with neither files nor network in reach. QueryError for an unknown view.
    """
    if view not in schema.VIEWS:
        raise QueryError(f"view: {view!r} given, allowed: {', '.join(schema.VIEWS)}")
    if connection is None:
        connection = duckdb.connect(":memory:", config=_SANDBOX)
        connection.execute("SET lock_configuration = true")
    return connection.from_arrow(View(Snapshot(store), view))


class View(dataset.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """A view as DuckDB takes it; it calls `scanner` for each scan, with the columns it needs."""

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self._snapshot, self._name = snapshot, name
        self.failure: Exception | None = None
        """What went wrong as the store was read; DuckDB only passes on the words."""

    @property
    def schema(self) -> pa.Schema:
        """All columns of the view."""
        return schema.arrow_schema(schema.VIEWS[self._name])

    def scanner(
        self,
        columns: Sequence[str] | None = None,
        filter: Any = None,  # noqa: A002 - DuckDB names it so
        **options: Any,
    ) -> dataset.Scanner:
        """The rows that pass the filter, an expression of pyarrow; all columns where None is given."""
        shown = self.schema.names if columns is None else list(columns)
        # An expression does not list its columns; a name too many costs only the reading of it,
        # and one too few is an error of pyarrow.
        text = "" if filter is None else str(filter)
        needed = {*shown, *(name for name in self.schema.names if name in text)}
        try:
            # Without any column there would be no rows to count.
            table = self._snapshot.view(self._name, needed or self.schema.names[:1])
        except Exception as error:
            self.failure = error
            raise
        return dataset.dataset(table).scanner(columns=shown, filter=filter, **options)


def _query(snapshot: Snapshot, sql: str, time_limit_s: float, memory_limit: int) -> pa.Table:
    with (
        tempfile.TemporaryDirectory(prefix="peftgrid-query-") as spill,
        duckdb.connect(
            ":memory:",
            config={
                **_SANDBOX,
                "memory_limit": f"{memory_limit}B",
                "temp_directory": spill,
                "max_temp_directory_size": f"{4 * memory_limit}B",
            },
        ) as connection,
    ):
        _only_select(connection, sql)
        views = [View(snapshot, name) for name in schema.VIEWS]
        for name, view in zip(schema.VIEWS, views, strict=True):
            connection.register(name, view)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        limit = threading.Timer(time_limit_s, connection.interrupt)
        limit.start()
        try:
            return _answer(connection, sql, memory_limit)
        except duckdb.InterruptException as error:
            raise QueryError(f"stopped after the time limit of {time_limit_s:g} s") from error
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            for view in views:
                if view.failure is not None:
                    raise view.failure from error
            raise QueryError(str(error)) from error
        finally:
            limit.cancel()
            limit.join()


def _only_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    try:
        kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    if kinds != ["SELECT"]:
        raise QueryError(
            f"{', '.join(kinds) or 'no statement'} given; allowed: exactly one SELECT, "
            f"over the views {', '.join(schema.VIEWS)}"
        )


def _answer(connection: duckdb.DuckDBPyConnection, sql: str, memory_limit: int) -> pa.Table:
    reader = connection.sql(sql).to_arrow_reader()
    batches = []
    size = 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > memory_limit:
            raise QueryError(f"the answer is larger than the memory limit of {memory_limit} bytes")
    return pa.Table.from_batches(batches, schema=reader.schema)
