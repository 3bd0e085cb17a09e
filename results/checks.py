"""What names and files of a store are checked for."""

from __future__ import annotations

import re

import pyarrow as pa

from results.place import Place

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MANY = 1000
"""Rows from which on grouping them costs less than looking at each."""


def check_rows(path: Place, name: str, table: pa.Table) -> None:
    """ValueError unless the rows belong to the name: a renamed copy must not count twice."""
    stem = path.name.split(".")
    if name == "plans":
        names: tuple[str, ...] = ("suite", "suite_digest", "plan")
        expected: tuple[str | int, ...] = (stem[0], stem[1], int(stem[2]))
    elif name == "evaluations":
        names, expected = ("run_id",), (stem[0],)
    else:
        names = ("run_id", "attempt")
        expected = (stem[0], int(stem[1]))
    keys = table.select(names)
    if len(keys) > _MANY:
        keys = keys.group_by(names).aggregate([])
    rows = zip(*(keys.column(c).to_pylist() for c in names), strict=True)
    held = {(suite, digest[:8], n) for suite, digest, n in rows} if name == "plans" else set(rows)
    if held != {expected} or (name == "attempts" and len(table) != 1):
        raise ValueError(f"holds {sorted(held, key=str)}, allowed by its name: {expected}")


def check_name(what: str, name: str) -> None:
    """ValueError unless `name` can stand in a file's name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what}: {name!r} given, allowed: letters, digits, _ and -")
