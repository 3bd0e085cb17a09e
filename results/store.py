"""The store: a folder in which every attempt leaves exactly one row and nothing is overwritten.

    store.json                                 format version; makes the folder a store
    claims/<run_id>.<n>.json                   attempt n was opened
    epochs/<run_id>.<n>.<random>.parquet       its epochs, named by its row with their digest
    attempts/<run_id>.<n>.parquet              attempt n is closed: this file is the commit
    decisions/<run_id>.<n>.json                what the driver decided about its end
    plans/<suite>.<digest8>.<n>.parquet|.yaml  the n-th plan of the suite and the suite's text
    tables/gen-<n>.json, ...                   compacted tables (see `results.generations`)
    lease/<suite>.<n>.json|.beat               who drives the suite (see `results.lease`)
    quarantine/...                             damaged files (see `results.quarantine`)

Every file but the beats is made by exclusive create (see `results.files`): of any number of
processes that close one attempt, one wins and the others change nothing. An attempt that a
generation covers stays closed after `gc` deleted its file. Reading needs no permission to write.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from results import compaction, plans, schema, views
from results.errors import StoreError as StoreError
from results.files import (
    UNREADABLE,
    create_exclusive,
    make_folder,
    parquet_bytes,
    read_json,
    read_parquet,
    read_sealed,
    remove,
    sealed_json,
)
from results.folder import open_folder
from results.reading import Key, Reader, key_of
from results.record import Attempt, Epoch, PlanRow, from_row, to_table

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run stands: by its first success, else by its latest attempt."""

    status: str
    attempt: int
    """The attempt that stands for the run."""
    attempts: int
    failure_kind: str | None
    error: str | None


class Store:
    """One store. Make it with `Store.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = Reader(path)
        self._highest: dict[str, int] = {}

    @staticmethod
    def open(path: str | os.PathLike[str], create: bool = False) -> Store:
        """The store in `path`. With `create` it is made where missing and must be writable."""
        return Store(open_folder(path, create))

    @property
    def bad_files(self) -> list[tuple[Path, str]]:
        """Files set aside so far, because they are torn, foreign or misnamed, with the reason."""
        return sorted(self._reader.bad.items())

    # Writing

    def claim(self, run_id: str, info: Mapping[str, Any]) -> int:
        """Open the next attempt at a run; its number, above every claim and attempt of the run.

        Numbers have no gaps but for what `gc` deleted, so the first free one above what the
        newest generation covers is looked for upward, without listing what other runs have.
        """
        _check_name("run_id", run_id)
        number = max(self._highest.get(run_id, 0), self._reader.highest_packed(run_id))
        while True:
            number += 1
            stem = f"{run_id}.{number}"
            path = self.path / "claims" / f"{stem}.json"
            if path.exists() or (self.path / "attempts" / f"{stem}.parquet").exists():
                continue
            body = json.dumps({**info, "run_id": run_id, "attempt": number}, default=str)
            if not create_exclusive(path, body.encode()):
                continue
            # The number may have been closed, compacted and collected since it was looked up.
            covered = self._reader.highest_packed(run_id)
            if covered < number:
                self._highest[run_id] = number
                return number
            remove(path)
            number = covered

    def commit(self, attempt: Attempt, epochs: Sequence[Epoch] = ()) -> bool:
        """Close an attempt, for good. False where it was closed before: then nothing is changed.

        After a StoreError, calling it again with the same is right: True also where the first
        call had closed the attempt after all.
        """
        _check_name("run_id", attempt.run_id)
        key = attempt.run_id, attempt.attempt
        assert all((e.run_id, e.attempt) == key for e in epochs), "epochs of another attempt"
        stem = f"{attempt.run_id}.{attempt.attempt}"
        row = attempt.to_row()
        path = self.path / "attempts" / f"{stem}.parquet"
        # The random part keeps the loser of a race off the file that the winner's row names.
        epochs_path = self.path / "epochs" / f"{stem}.{secrets.token_hex(4)}.parquet"
        try:
            if epochs:
                table = to_table((epoch.to_row() for epoch in epochs), schema.EPOCHS)
                data = parquet_bytes(table, "epochs")
                create_exclusive(epochs_path, data)
                row["epochs_file"] = f"epochs/{epochs_path.name}"
                row["epochs_digest"] = hashlib.sha256(data).hexdigest()
            table = to_table([row], schema.ATTEMPTS)
            won = create_exclusive(path, parquet_bytes(table, "attempts"))
        except StoreError:
            if not path.exists():
                remove(epochs_path)
            raise
        self._highest[key[0]] = max(self._highest.get(key[0], 0), key[1])
        if won and self._reader.is_packed(key):
            # It was closed, compacted and collected; covered as it is, this file counts for nothing.
            remove(path)
            won = False
        if won:
            return True
        held = self._row(key)
        if held is None or held["epochs_file"] != row.get("epochs_file"):
            remove(epochs_path)
        return held is not None and _same(held, table.to_pylist()[0])

    def _row(self, key: Key) -> dict[str, Any] | None:
        """The row of a closed attempt; None where it cannot be read."""
        path = self.path / "attempts" / f"{key[0]}.{key[1]}.parquet"
        try:
            table, _ = read_parquet(path, "attempts", schema.ATTEMPTS)
        except UNREADABLE:
            table = self._reader.packed("attempts", schema.ATTEMPTS)
        rows: list[dict[str, Any]] = table.to_pylist()
        return next((row for row in rows if (row["run_id"], row["attempt"]) == key), None)

    def save_decision(self, run_id: str, attempt: int, decision: Mapping[str, Any]) -> bool:
        """Keep what was decided about an attempt that ended (`again`, `reason`), for good.

        False, and nothing changed, where a decision about it is kept already.
        """
        _check_name("run_id", run_id)
        body = sealed_json({**decision, "run_id": run_id, "attempt": attempt})
        folder = make_folder(self.path / "decisions")
        return create_exclusive(folder / f"{run_id}.{attempt}.json", body)

    def save_plan(
        self,
        suite: str,
        digest: str,
        text: str,
        rows: Sequence[PlanRow],
        overrides: Sequence[str] = (),
    ) -> None:
        """Keep a plan and the suite's text; where it equals the suite's latest plan, do nothing."""
        _check_name("suite", suite)
        plans.save(self._reader, suite, digest, text, rows, overrides)

    def compact(self) -> int | None:
        """Write what is committed as two large files; see `results.compaction.compact`."""
        return compaction.compact(self._reader)

    def gc(self) -> compaction.Collected:
        """Delete what two generations hold; see `results.compaction.collect`."""
        return compaction.collect(self._reader)

    # Reading

    def attempts(self, columns: Iterable[str] | None = None) -> pa.Table:
        """Every attempt, ordered by run and number; all columns or those named."""
        keys = ("run_id", "attempt", "status")
        wanted: tuple[schema.Column, ...] = schema.ATTEMPTS
        if columns is not None:
            names = {*keys, *columns}
            wanted = tuple(column for column in schema.ATTEMPTS if column.name in names)
        return self._reader.attempts(wanted)

    def epochs(self) -> pa.Table:
        """Every epoch of every attempt that is committed."""
        return self._reader.epochs()

    def runs(self, columns: Iterable[str] | None = None) -> pa.Table:
        """One row per run: its first success, else its latest attempt; columns as in `attempts`."""
        return views.runs_of(self.attempts(columns))

    def plans_table(self) -> pa.Table:
        """The latest plan of every suite, one row per cell."""
        return plans.table(self._reader)

    def plans(self) -> list[str]:
        """The suites that have a plan."""
        return plans.suites(self._reader)

    def plan(self, suite: str, digest: str | None = None) -> list[PlanRow]:
        """The cells of a suite's latest plan (of that digest); empty where there is none."""
        rows = plans.latest(self._reader, suite, digest).to_pylist()
        return [from_row(PlanRow, row) for row in rows]

    def states(self) -> dict[str, RunState]:
        """How every run stands that was attempted."""
        attempts = self.attempts(["failure_kind", "error"])
        numbers, statuses, kinds, errors = (
            attempts.column(name).to_pylist()
            for name in ("attempt", "status", "failure_kind", "error")
        )
        return {
            run_id: RunState(
                status=statuses[row.index],
                attempt=numbers[row.index],
                attempts=row.attempts,
                failure_kind=kinds[row.index],
                error=errors[row.index],
            )
            for run_id, row in views.standings(attempts).items()
        }

    def open_claims(self) -> dict[str, dict[str, Any]]:
        """The latest claim of every run whose attempt is not closed, as it was given to `claim`."""
        names = sorted(self._reader.names("claims"))
        closed = self._reader.closed()
        claims: dict[str, dict[str, Any]] = {}
        for name in names:
            if key_of(name) in closed:
                continue
            claim = self._reader.entry("claims", name, read_json)
            known = claims.get(claim["run_id"]) if claim else None
            if claim and (known is None or claim["attempt"] > known["attempt"]):
                claims[claim["run_id"]] = claim
        return claims

    def decisions(self) -> dict[Key, dict[str, Any]]:
        """What was decided about attempts that ended, by run_id and attempt."""
        names = sorted(self._reader.names("decisions", optional=True))
        found = (self._reader.entry("decisions", name, read_sealed) for name in names)
        return {(held["run_id"], held["attempt"]): held for held in found if held}

    def runs_frame(self) -> pd.DataFrame:
        """`runs()` as a data frame: integers and flags stay nullable, maps are dicts."""
        import pandas as pd

        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = self.runs().to_pandas(
            types_mapper=nullable.get, maps_as_pydicts="strict"
        )
        return frame


def _same(held: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    """Whether two rows say the same, wherever their epochs lie. By repr, in which nan is nan."""
    return all(repr(held[name]) == repr(mine[name]) for name in mine if name != "epochs_file")


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what}: {name!r} given, allowed: letters, digits, _ and -")
