"""A table as text for people and as bytes for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import QueryError

FORMATS = ("table", "csv", "json", "parquet")
_WIDEST = 60
"""Characters of one cell in text; longer ones are cut."""


def format_table(table: pa.Table, fmt: str) -> bytes:
    """The table in one of `FORMATS`; text is UTF-8.

    In csv a map is its JSON and null is empty; json is a list of objects in which null also
    stands for what JSON has no number for (nan and infinities).
    """
    if fmt == "csv":
        return _csv(table).encode()
    if fmt == "json":
        return (json.dumps([_json(row) for row in _rows(table)], indent=1) + "\n").encode()
    if fmt == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        data: bytes = sink.getvalue().to_pybytes()
        return data
    if fmt == "table":
        cells = [[_text(value) for value in row.values()] for row in _rows(table)]
        numeric = [pa.types.is_integer(t) or pa.types.is_floating(t) for t in table.schema.types]
        return aligned(table.column_names, cells, numeric).encode()
    raise QueryError(f"format: {fmt!r} given, allowed: {', '.join(FORMATS)}")


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Columns of text under a header and a rule; those in `right` are aligned to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """A Markdown table; what a cell holds is text and neither ends the cell nor is read as HTML."""
    rule = ["---:" if to_right else "---" for to_right in right]
    escaped = [
        [cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;") for cell in line]
        for line in (header, *rows)
    ]
    lines = [escaped[0], rule, *escaped[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def printable(text: str) -> str:
    """Text with line ends and control characters escaped, so that it cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    return rows


def _csv(table: pa.Table) -> str:
    out = io.StringIO(newline="")
    # Line ends of two characters: only so is a lone carriage return quoted.
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(table.column_names)
    for row in _rows(table):
        writer.writerow([_plain(value) for value in row.values()])
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(_json(value))
    return value.isoformat() if hasattr(value, "isoformat") else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else printable(str(_plain(value)))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        # DuckDB's sum of integers comes as one.
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
