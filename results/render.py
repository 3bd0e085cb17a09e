"""A leaderboard as text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from results import formats
from results import latex as tex
from results.errors import TableError

if TYPE_CHECKING:
    from results._costs import Range
    from results.stats import Interval
    from results.table import Cell, Leaderboard, Row

COLUMNS = (
    *("datasets", "groups", "runs", "mean", "interval", "iqm", "rank", "wins", "trainable"),
    *("adapter", "percent", "epoch", "train", "memory", "tuning"),
)
"""What can be asked for by name, in the order in which it stands beside the variant."""
_LEAST_NEEDED = ("train", "adapter", "percent", "memory", "epoch", "iqm")
"""What is left out first where a width is given; after it `_FEW` or `_MANY`, by the data sets."""
_FEW = ("groups", "tuning", "wins", "datasets", "interval", "rank", "trainable")
_MANY = ("tuning", "wins", "groups", "interval", "rank", "trainable")


class _Column(NamedTuple):
    """One column of a table, or the several of `datasets` and `groups`."""

    headers: list[str]
    lines: list[list[str]]
    """Per row, one cell per header."""


class Shown(NamedTuple):
    """A leaderboard in cells of text."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    right: list[bool]
    """Which columns are aligned to the right: all but the variant."""
    remarks: list[str]


def shown(board: Leaderboard, columns: Sequence[str] | None = None) -> Shown:
    """What the other forms are made of; without `columns`, those that say something."""
    grid = _grid(board, columns)
    return Shown(_caption(board), *_joined(grid), _remarks(board, grid))


def fitting(board: Leaderboard, width: int) -> list[str]:
    """The columns, by name, that fit into `width` characters beside the variant."""
    return [name for name in _fit(_grid(board, None), width)[0] if name in COLUMNS]


def text(board: Leaderboard, columns: Sequence[str] | None, width: int | None) -> str:
    """Aligned columns under a line that says what they are, remarks below."""
    grid = _grid(board, columns)
    left_out: list[str] = []
    if columns is None and width is not None:
        grid, left_out = _fit(grid, width)
    remarks = _remarks(board, grid)
    if left_out:
        remarks.insert(
            0, f"left out to fit {width} columns (--wide shows them): {', '.join(left_out)}"
        )
    below = "".join(f"{remark}\n" for remark in remarks)
    return f"{_caption(board)}\n\n{formats.aligned(*_joined(grid))}\n{below}"


def markdown(board: Leaderboard, columns: Sequence[str] | None) -> str:
    """A Markdown table over the lines that say what it shows."""
    grid = _grid(board, columns)
    # A label in a remark must not be read as HTML, as in a cell.
    said = (line.replace("<", "&lt;") for line in (_caption(board), *_remarks(board, grid)))
    below = "".join(f"\n{line}\n" for line in said)
    return formats.markdown(*_joined(grid)) + below


def latex(board: Leaderboard, columns: Sequence[str] | None) -> str:
    """A LaTeX table with the same under it."""
    grid = _grid(board, columns)
    return tex.table(*_joined(grid), caption=_caption(board), remarks=_remarks(board, grid))


def as_csv(board: Leaderboard) -> str:
    """One line per row, numbers unrounded, missing ones empty; the last columns say where it is from."""
    out = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for row in board.rows:
        line = _flat(board, row)
        if writer is None:
            writer = csv.DictWriter(out, list(line), lineterminator="\n")
            writer.writeheader()
        writer.writerow(line)
    return out.getvalue()


def as_json(board: Leaderboard) -> str:
    """One object; settings as an object, ranges and intervals as pairs, missing numbers as null."""
    plain = dataclasses.asdict(board)
    for row in plain["rows"]:
        row["settings"] = dict(row["settings"])
    return json.dumps(plain, indent=1) + "\n"


def source(suites: Sequence[str], metric: str, provenance: Mapping[str, str]) -> str:
    """The line that says where a table comes from."""
    said = {"suite": ", ".join(suites), "metric": metric, **provenance}
    return "from: " + "; ".join(f"{name} {formats.printable(said[name])}" for name in said)


def number(value: float | None, digits: int) -> str:
    """With thousands separated; empty where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"


def span(values: Range | Interval | None, digits: int) -> str:
    """One number, or the least and the most where they differ."""
    if values is None:
        return ""
    return "..".join(dict.fromkeys(number(value, digits) for value in values))


def _caption(board: Leaderboard) -> str:
    return (
        f"{', '.join(board.suites)}: {board.metric}, mean +- sample standard deviation over seeds; "
        "(n/m): only n of m runs have a score yet"
    )


def _remarks(board: Leaderboard, grid: Mapping[str, _Column]) -> list[str]:
    """What the columns mean that are shown, what to know of single rows, and where it is from."""
    from results.stats import MIN_SEEDS
    from results.table import RESAMPLES

    of = "over seeds, then data sets" + (", then groups" if len(board.groups) > 1 else "")
    remarks = [f"mean: {of}; only where every planned run has its score"]
    if "interval" in grid:
        remarks.append(
            f"95 %: percentile bootstrap of the mean, seeds drawn within each data set, {RESAMPLES:,} "
            f"resamples; none below {MIN_SEEDS} seeds"
        )
    elif any(row.mean is not None and row.interval is None for row in board.rows):
        remarks.append(f"no interval: it needs {MIN_SEEDS} seeds on every data set")
    if "rank" in grid or "wins" in grid:
        remarks.append("rank, wins: over data sets, among the rows that have a mean")
    if "tuning" in grid:
        remarks.append("tuning: runs spent on choosing settings, over all data sets")
    remarks.append(_fairness(board))
    remarks += [
        f"{formats.printable(row.label)}: {'; '.join(row.notes)}" for row in board.rows if row.notes
    ]
    return [*remarks, source(board.suites, board.metric, board.provenance)]


def _fairness(board: Leaderboard) -> str:
    """What the rows were given, in a line."""
    runs = [float(row.tuning_planned) for row in board.rows]
    tuned = f"{span((min(runs), max(runs)), 0)} tuning runs a row" if any(runs) else "not tuned"
    counts = [row.adapter_params for row in board.rows if row.adapter_params is not None]
    said = ""
    if counts:
        least, most = min(count[0] for count in counts), max(count[1] for count in counts)
        said = f"; {span((least, most), 0)} parameters trained without the head"
    if len(board.suites) == 1:  # which has one `preprocess`; several may differ
        said += "; one preprocessing for all rows of a backbone and data set"
    return f"fairness: {tuned}{said}"


def _grid(board: Leaderboard, columns: Sequence[str] | None) -> dict[str, _Column]:
    """The columns by name: those asked for, else those that say something."""
    unknown = [name for name in columns or () if name not in COLUMNS]
    if unknown:
        raise TableError(
            f"columns: {', '.join(map(repr, unknown))} given, allowed: {', '.join(COLUMNS)}"
        )
    datasets, groups = board.datasets, list(board.groups)
    made = {
        "datasets": _Column(
            list(datasets),
            [[_cell(row.cells.get(name)) for name in datasets] for row in board.rows],
        ),
        "groups": _Column(
            groups, [[number(row.groups.get(name), 4) for name in groups] for row in board.rows]
        ),
        "runs": _one("runs", (f"{row.runs}/{row.expected}" for row in board.rows)),
        "mean": _one("mean", (number(row.mean, 4) for row in board.rows)),
        "interval": _one("95 %", (span(row.interval, 4) for row in board.rows)),
        "iqm": _one("IQM", (number(row.iqm, 4) for row in board.rows)),
        "rank": _one("rank", (number(row.mean_rank, 2) for row in board.rows)),
        "wins": _one("wins", ("" if row.wins is None else str(row.wins) for row in board.rows)),
        "trainable": _one("trainable", (span(row.trainable_params, 0) for row in board.rows)),
        "adapter": _one("adapter", (span(row.adapter_params, 0) for row in board.rows)),
        "percent": _one("trainable %", (span(row.trainable_percent, 3) for row in board.rows)),
        "epoch": _one("epoch s", (number(row.epoch_seconds, 2) for row in board.rows)),
        "train": _one("train s", (number(row.train_seconds, 1) for row in board.rows)),
        "memory": _one("peak MiB", (_mebibytes(row.peak_memory_bytes) for row in board.rows)),
        "tuning": _one("tuning", (_tuning(row) for row in board.rows)),
    }
    if columns is None:
        columns = [name for name in made if _says_something(board, name, made[name])]
    variant = _one("variant", (formats.printable(_named(row)) for row in board.rows))
    return {"variant": variant, **{name: made[name] for name in COLUMNS if name in columns}}


def _says_something(board: Leaderboard, name: str, column: _Column) -> bool:
    if name == "groups" and not 1 < len(board.groups) < len(board.datasets):
        return False
    if name == "runs" and all(row.runs == row.expected for row in board.rows):
        return len({row.expected for row in board.rows}) > 1
    if name in ("rank", "wins") and sum(row.mean is not None for row in board.rows) < 2:
        return False
    return name in ("datasets", "mean") or any(any(line) for line in column.lines)


def _fit(grid: dict[str, _Column], width: int) -> tuple[dict[str, _Column], list[str]]:
    """The grid without what it is too wide for, and the names of that."""
    wide = {name: _width(column) for name, column in grid.items()}
    essential = ("variant", "datasets", "runs", "mean")
    order = (*_LEAST_NEEDED, *_FEW)
    if sum(wide[name] for name in grid if name in essential) > width:
        # No room for all the data sets anyway, so nothing else has to go for them.
        order = ("datasets", *_LEAST_NEEDED, *_MANY)
    left_out: set[str] = set()
    for name in order:
        if sum(wide[kept] for kept in wide.keys() - left_out) <= width:
            break
        left_out |= {name} & grid.keys()
    kept = {name: column for name, column in grid.items() if name not in left_out}
    return kept, [name for name in grid if name in left_out]


def _width(column: _Column) -> int:
    """Characters of the column, or columns, with the space beside each."""
    lines = zip(column.headers, *column.lines, strict=True)
    return sum(max(map(len, cells)) + 2 for cells in lines)


def _joined(grid: Mapping[str, _Column]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Header, rows, and which columns are aligned to the right: all but the variant."""
    header = [formats.printable(name) for column in grid.values() for name in column.headers]
    lines = zip(*(column.lines for column in grid.values()), strict=True)
    rows = [[cell for part in line for cell in part] for line in lines]
    return header, rows, [False] + [True] * (len(header) - 1)


def _one(header: str, cells: Iterable[str]) -> _Column:
    return _Column([header], [[cell] for cell in cells])


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


def _named(row: Row) -> str:
    return row.label if row.name is None else f"{row.label} ({row.name})"


def _tuning(row: Row) -> str:
    if not row.tuning_planned:
        return ""
    done, planned = row.tuning_runs, row.tuning_planned
    return str(done) if done == planned else f"{done}/{planned}"


def _mebibytes(size: int | None) -> str:
    return number(None if size is None else size / 2**20, 0)


def _flat(board: Leaderboard, row: Row) -> dict[str, object]:
    """Every value of a row under a name of its own."""
    flat: dict[str, object] = {
        "variant": row.variant,
        "settings": " ".join(f"{name}={value}" for name, value in row.settings),
        "backbone": row.backbone,
    }
    for name in board.datasets:
        cell = row.cells.get(name)
        for field in ("mean", "std", "seeds", "expected"):
            flat[f"{name} {field}"] = None if cell is None else vars(cell)[field]
    for name in board.groups:
        flat[f"group {name}"] = row.groups.get(name)
    for field in ("runs", "expected", "mean", "iqm", "mean_rank", "wins"):
        flat[field] = vars(row)[field]
    pairs = {"mean_low_high": row.interval, "trainable_params_low_high": row.trainable_params}
    pairs |= {"adapter_params_low_high": row.adapter_params}
    pairs |= {"trainable_percent_low_high": row.trainable_percent}
    for field, values in pairs.items():
        for end, value in zip(("low", "high"), values or (None, None), strict=True):
            flat[field.replace("low_high", end)] = value
    for field in ("epoch_seconds", "train_seconds", "peak_memory_bytes", "tuning_runs"):
        flat[field] = vars(row)[field]
    flat["notes"] = "; ".join(row.notes)
    return flat | {"suite": ", ".join(board.suites), "metric": board.metric, **board.provenance}
