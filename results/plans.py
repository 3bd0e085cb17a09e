"""The plans of a store: which cells a suite asked for, and the suite's text.

    plans/<suite>.<digest8>.<n>.parquet|.yaml   the n-th plan of the suite

The latest undamaged plan of a suite counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from results import schema
from results.files import create_exclusive, parquet_bytes
from results.place import Place
from results.reading import Reader
from results.record import PlanRow, to_table

_KEYS = ("suite", "suite_digest", "plan")
_MANY = 256
"""A plan of so many cells is compressed."""
_BATCH = 1 << 14


def save(
    reader: Reader,
    suite: str,
    digest: str,
    text: str,
    rows: Sequence[PlanRow],
    overrides: Sequence[str],
) -> None:
    """Keep a plan and the suite's text; where it equals the suite's latest plan, do nothing."""
    assert rows, "a plan without cells"
    assert all((row.suite, row.suite_digest) == (suite, digest) for row in rows)
    number = max((n for name, n, _ in files(reader) if name == suite), default=0)
    table = _table(rows, number, overrides)
    if latest(reader, suite).equals(table):
        return
    while True:
        number += 1
        table = _numbered(table, number)
        stem = reader.path / "plans" / f"{suite}.{digest[:8]}.{number}"
        create_exclusive(stem.with_name(f"{stem.name}.yaml"), text.encode())
        data = parquet_bytes(table, "plans", packed=len(rows) >= _MANY)
        if create_exclusive(stem.with_name(f"{stem.name}.parquet"), data):
            return


def files(reader: Reader) -> dict[tuple[str, int, str], Place]:
    """Every plan by (suite, number, digest8)."""
    named = [(name.split("."), reader.path / "plans" / name) for name in reader.names("plans")]
    return {
        (parts[0], int(parts[2]), parts[1]): path
        for parts, path in named
        if len(parts) == 4 and parts[2].isdecimal() and parts[3] == "parquet"
    }


def suites(reader: Reader) -> list[str]:
    """The suites that have a plan."""
    return sorted({suite for suite, _, _ in files(reader)})


def latest(
    reader: Reader,
    suite: str,
    digest: str | None = None,
    columns: tuple[schema.Column, ...] = schema.PLANS,
) -> pa.Table:
    """The latest undamaged plan of a suite (of that digest); no rows where there is none."""
    wanted = tuple(c for c in schema.PLANS if c.name in _KEYS or c in columns)
    for (name, _, _), path in sorted(files(reader).items(), reverse=True):
        if name != suite:
            continue
        for plan in reader.good("plans", wanted, [(path, None)]):
            if len(plan) and digest in (None, plan.column("suite_digest")[0].as_py()):
                return plan.select([column.name for column in columns])
    return schema.arrow_schema(columns).empty_table()


def text(reader: Reader, suite: str) -> str | None:
    """The suite file that the latest undamaged plan was made of; None where it cannot be read."""
    plan = latest(reader, suite)
    if not len(plan):
        return None
    digest, number = (plan.column(name)[0].as_py() for name in ("suite_digest", "plan"))
    path = reader.path / "plans" / f"{suite}.{digest[:8]}.{number}.yaml"
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return None


def table(reader: Reader, columns: tuple[schema.Column, ...] = schema.PLANS) -> pa.Table:
    """The latest plan of every suite, one row per cell."""
    empty = schema.arrow_schema(columns).empty_table()
    found = (latest(reader, suite, columns=columns) for suite in suites(reader))
    return pa.concat_tables([empty, *found])


def _table(rows: Sequence[PlanRow], number: int, overrides: Sequence[str]) -> pa.Table:
    """The rows, some at a time: as Python objects they take several times the memory."""
    parts = [rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH)]
    return pa.concat_tables(
        to_table((row.to_row(plan=number, overrides=overrides) for row in part), schema.PLANS)
        for part in parts
    )


def _numbered(table: pa.Table, number: int) -> pa.Table:
    """The same plan with another number."""
    at = table.schema.get_field_index("plan")
    numbers = pa.repeat(pa.scalar(number, schema.INT), len(table))
    return table.set_column(at, table.schema.field(at), numbers)
