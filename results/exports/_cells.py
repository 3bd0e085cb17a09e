"""CSV that programs and spreadsheets read alike (RFC 4180, UTF-8)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What spreadsheets take for the beginning of a formula, in full width too."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the named columns of the rows; what a row does not have is empty. How many rows."""
    number = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        # Line ends of two characters: only so does Python's writer quote a lone carriage return.
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([cell(name) for name in columns])
        for row in rows:
            writer.writerow([cell(row.get(name)) for name in columns])
            number += 1
    return number


def cell(value: Any) -> str:
    """One value: null is empty, a time ISO 8601 in UTC, a number in full precision.

    Text that a spreadsheet would take for a formula gets an apostrophe in front; text that is a
    number stays as it is. NUL, which no spreadsheet and few programs read, becomes U+FFFD.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if not isinstance(value, str):
        return repr(value)
    text = value.replace("\0", "\ufffd")
    guarded = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if guarded else text


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with each map spread over columns `<map>.<key>`."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            found[name] = value
    return found


def flat_columns(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of `flat` rows in the order of `names`, a map's keys sorted in its place."""
    keys: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, Mapping):
                keys.setdefault(name, set()).update(map(str, value))
    return [
        column
        for name in names
        for column in ([f"{name}.{key}" for key in sorted(keys[name])] if name in keys else [name])
    ]
