"""What trained runs score on further sets, and between their start and their end (WiSE).

    evaluations/<run_id>.<key>.parquet     rows of one run that were made together

Adding rows starts no training. A row is known by run, set, split, mode and alpha; where two processes
made the same one, the first by the file's name counts. Files are made by exclusive create and never
changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from results import schema
from results.files import create_exclusive, make_folder, parquet_bytes
from results.reading import Reader

FOLDER = "evaluations"
KEYS = ("run_id", "set", "split", "mode", "alpha")
TRAINED, ZERO_SHOT = "trained", "zero_shot"


class Key(NamedTuple):
    """What makes an evaluation one."""

    run_id: str
    set: str
    split: str
    mode: str
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One row; the columns of `schema.EVALUATIONS`."""

    run_id: str
    set: str
    split: str
    mode: str
    alpha: float
    own: bool | None = None
    corruption: str | None = None
    severity: int | None = None
    images: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss: float | None = None
    seconds: float | None = None
    set_digest: str | None = None
    model_digest: str | None = None
    device: str | None = None
    threads: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    created_at: datetime | None = None

    @property
    def key(self) -> Key:
        """What makes it one."""
        return Key(*(getattr(self, name) for name in KEYS))

    def to_row(self) -> dict[str, Any]:
        """The values of the columns, derived ones included."""
        row = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        # Arrow takes a map as pairs; sorted, so that equal rows are equal bytes.
        row = {k: sorted(v.items()) if isinstance(v, Mapping) else v for k, v in row.items()}
        return row | {name: self.metrics.get(name) for name in ("top1", "nll", "ece")}


def save(reader: Reader, rows: Sequence[Evaluation]) -> bool:
    """Keep rows of one run, for good; False where a process that makes the same ones was first."""
    (run_id,) = {row.run_id for row in rows}
    named = hashlib.sha256(repr(sorted(row.key for row in rows)).encode()).hexdigest()[:12]
    path = make_folder(reader.path / FOLDER) / f"{run_id}.{named}.parquet"
    arrow = schema.arrow_schema(schema.EVALUATIONS)
    table = pa.Table.from_pylist([row.to_row() for row in rows], schema=arrow)
    return create_exclusive(path, parquet_bytes(table, FOLDER))


def table(reader: Reader, columns: tuple[schema.Column, ...] = schema.EVALUATIONS) -> pa.Table:
    """Every evaluation once, ordered by `KEYS`; `columns` include these."""
    files = [(reader.path / FOLDER / name, None) for name in sorted(names(reader))]
    found = pa.concat_tables(
        [schema.arrow_schema(columns).empty_table(), *reader.good(FOLDER, columns, files)]
    )
    rows = list(zip(*(found.column(name).to_pylist() for name in KEYS), strict=True))
    first = {key: at for at, key in reversed(list(enumerate(rows)))}
    return found.take(pa.array([first[key] for key in sorted(first)], pa.int64()))


def names(reader: Reader) -> list[str]:
    """The files of evaluations."""
    return [name for name in reader.names(FOLDER, optional=True) if name.endswith(".parquet")]


def keys(rows: pa.Table) -> set[Key]:
    """The keys of the rows of a table."""
    values = zip(*(rows.column(name).to_pylist() for name in KEYS), strict=True)
    return {Key(*key) for key in values}
