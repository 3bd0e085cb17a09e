"""What names and files of a store are checked for."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check_rows(path: Path, name: str, table: pa.Table) -> None:
    """ValueError unless the rows belong to the name: a renamed copy must not count twice."""
    stem = path.name.split(".")
    if name == "plans":
        held = {
            (suite, digest[:8], number)
            for suite, digest, number in zip(
                *(table.column(c).to_pylist() for c in ("suite", "suite_digest", "plan")),
                strict=True,
            )
        }
        expected: tuple[str | int, ...] = (stem[0], stem[1], int(stem[2]))
    else:
        held = set(zip(*(table.column(c).to_pylist() for c in ("run_id", "attempt")), strict=True))
        expected = (stem[0], int(stem[1]))
    if held != {expected} or (name == "attempts" and len(table) != 1):
        raise ValueError(f"holds {sorted(held, key=str)}, allowed by its name: {expected}")


def check_name(what: str, name: str) -> None:
    """ValueError unless `name` can stand in a file's name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what}: {name!r} given, allowed: letters, digits, _ and -")
