"""SQL over a store: exactly one SELECT over `runs`, `attempts`, `epochs` and `plans`, by DuckDB.

The statement comes from a person, the answers must not depend on trust in it. pyarrow reads the
store and the tables are registered in a database in memory, so the statement needs no file at
all: access to files, network and extensions is off, Python variables are out of reach, the
settings are locked, and time and memory have limits. The one statement must be of type SELECT,
because EXPLAIN ANALYZE, PRAGMA and COPY can all wrap effects.
"""

from __future__ import annotations

import tempfile
import threading

import duckdb
import pyarrow as pa

from results import schema
from results.errors import QueryError as QueryError
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
        for name, table in _tables(store, sql).items():
            connection.register(name, table)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET lock_configuration = true")
        limit = threading.Timer(time_limit_s, connection.interrupt)
        limit.start()
        try:
            return _answer(connection, sql, memory_limit)
        except duckdb.InterruptException as error:
            raise QueryError(f"stopped after the time limit of {time_limit_s:g} s") from error
        except (duckdb.Error, pa.ArrowException, OSError) as error:
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


def _tables(store: Store, sql: str) -> dict[str, pa.Table]:
    """The views that the statement names; all where it names none (SHOW TABLES, a misspelling)."""
    read = {
        "runs": store.runs,
        "attempts": store.attempts,
        "epochs": store.epochs,
        "plans": store.plans_table,
    }
    named = [name for name in read if name in sql.lower()]
    return {name: read[name]() for name in named or read}


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
