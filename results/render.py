"""A leaderboard as text, Markdown and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from results.formats import aligned, printable

if TYPE_CHECKING:
    from results.table import Cell, Leaderboard, Range, Row


def text(board: Leaderboard) -> str:
    """Aligned columns under a line that says what they are."""
    header, rows = _grid(board)
    right = [False, *(name != "notes" for name in header[1:])]
    return f"{_caption(board)}\n\n{aligned(header, rows, right)}"


def markdown(board: Leaderboard) -> str:
    """A Markdown table over the line that says what it shows."""
    header, rows = _grid(board)
    rule = ["---", *("---" if name == "notes" else "---:" for name in header[1:])]
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{_caption(board)}\n"


def as_json(board: Leaderboard) -> str:
    """One object; settings as an object, ranges as pairs, missing numbers as null."""
    plain = dataclasses.asdict(board)
    for row in plain["rows"]:
        row["settings"] = dict(row["settings"])
    return json.dumps(plain, indent=1) + "\n"


def _caption(board: Leaderboard) -> str:
    return (
        f"{', '.join(board.suites)}: {board.metric}, mean +- sample standard deviation over seeds; "
        "(n/m): only n of m runs have a score yet"
    )


def _grid(board: Leaderboard) -> tuple[list[str], list[list[str]]]:
    several = len({row.backbone for row in board.rows}) > 1
    header = ["variant", *board.datasets, "mean", "trainable", "adapter", "trainable %"]
    header += ["epoch s", "train s", "peak MiB", "notes"]
    lines = [_line(row, board.datasets, several) for row in board.rows]
    if not any(row.notes for row in board.rows):
        header, lines = header[:-1], [line[:-1] for line in lines]
    return header, lines


def _line(row: Row, datasets: Sequence[str], several: bool) -> list[str]:
    settings = " ".join(f"{key}={value}" for key, value in row.settings)
    name = f"{row.backbone}: {row.variant}" if several else row.variant
    peak = row.peak_memory_bytes
    cells = [
        f"{name} {settings}".rstrip(),
        *(_cell(row.cells.get(dataset)) for dataset in datasets),
        _number(row.mean, 4),
        _span(row.trainable_params, 0),
        _span(row.adapter_params, 0),
        _span(row.trainable_percent, 3),
        _number(row.epoch_seconds, 2),
        _number(row.train_seconds, 1),
        _number(None if peak is None else peak / 2**20, 0),
        "; ".join(row.notes),
    ]
    return [printable(cell) for cell in cells]


def _cell(cell: Cell | None) -> str:
    """`0.8123 +- 0.0045`, with `(1/3)` where runs are missing; `-` where none is planned."""
    if cell is None:
        return "-"
    parts = [] if cell.mean is None else [f"{cell.mean:.4f}"]
    if cell.std is not None:
        parts.append(f"+- {cell.std:.4f}")
    if not cell.complete:
        parts.append(f"({cell.seeds}/{cell.expected})")
    return " ".join(parts)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _span(values: Range | None, digits: int) -> str:
    """One number, or the least and the most where they differ."""
    if values is None:
        return ""
    return "..".join(dict.fromkeys(_number(value, digits) for value in values))
