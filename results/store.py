"""The store: a folder or bucket in which every attempt leaves one row and nothing is overwritten.

    store.json                                 format version; makes the folder a store
    claims/<run_id>.<n>.json                   attempt n was opened
    epochs/<run_id>.<n>.<random>.parquet       its epochs, named by its row with their digest
    attempts/<run_id>.<n>.parquet              attempt n is closed: this file is the commit
    decisions/<run_id>.<n>.json                whether the run was tried again after attempt n, and why
    plans/<suite>.<digest8>.<n>.parquet|.yaml  the n-th plan of the suite and the suite's text
    tables/gen-<n>.json, ...                   compacted tables (see `results.generations`)
    checkpoints/<run_id>/                      resumable state of a run that is not finished
    models/<run_id>.<n>.<random>.safetensors   what a finished run trained (see `results.models`)
    predictions/<run_id>.<n>.<random>.safetensors   its test logits (see `results.predictions`)
    evaluations/<run_id>.<key>.parquet         its scores on further sets (see `results.evaluations`)
    lease/<suite>.<n>.*                        the drivers of a suite (see `results.lease`)
    logs/<run_id>.<n>.log                      what a process wrote while it ran, crashed or hung
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
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from results import compaction, evaluations, plans, schema, views
from results.checks import check_name
from results.errors import StoreError as StoreError
from results.evaluations import Evaluation
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
from results.place import Place
from results.reading import Key, Reader, key_of
from results.record import Attempt, Epoch, PlanRow, from_row, to_table
from results.record import Latest as Latest

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_STATUS = tuple(c for c in schema.ATTEMPTS if c.name in ("run_id", "attempt", "status"))


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

    def __init__(self, path: Place) -> None:
        self.path = path
        self._reader = Reader(path)

    @staticmethod
    def open(path: str | os.PathLike[str] | Place, create: bool = False) -> Store:
        """The store in `path`, or `s3://...`. With `create` it is made where missing."""
        return Store(open_folder(path, create))

    @property
    def bad_files(self) -> list[tuple[Place, str]]:
        """Files set aside so far, because they are torn, foreign or misnamed, with the reason."""
        return sorted(self._reader.bad.items())

    # Writing

    def claim(self, run_id: str, info: Mapping[str, Any]) -> int:
        """Open the next attempt at a run; its number, above every claim and attempt of the run."""
        while True:
            number = self.latest(run_id).number + 1
            if self.try_claim(run_id, number, info):
                return number

    def try_claim(self, run_id: str, number: int, info: Mapping[str, Any]) -> bool:
        """Open attempt `number`, which follows the latest. False where another process did."""
        check_name("run_id", run_id)
        path = self.path / "claims" / f"{run_id}.{number}.json"
        body = json.dumps({**info, "run_id": run_id, "attempt": number}, default=str)
        if not create_exclusive(path, body.encode()):
            return False
        # The number may have been closed, compacted and collected since it was looked up.
        if self._reader.packed_latest(run_id)[0] < number:
            return True
        remove(path)
        return False

    def commit(self, attempt: Attempt, epochs: Sequence[Epoch] = ()) -> bool:
        """Close an attempt, for good. False where it was closed before: then nothing is changed.

        After a StoreError, calling it again with the same is right: True also where the first
        call had closed the attempt after all.
        """
        check_name("run_id", attempt.run_id)
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
        check_name("run_id", run_id)
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
        check_name("suite", suite)
        plans.save(self._reader, suite, digest, text, rows, overrides)

    def compact_when_due(self) -> int | None:
        """`compact` where enough was committed since the last time that reading would be slow."""
        return self.compact() if compaction.is_due(self._reader) else None

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
        return self._reader.attempts(schema.chosen(schema.ATTEMPTS, keys, columns))

    def epochs(
        self, columns: Iterable[str] | None = None, *, attempts: pa.Table | None = None
    ) -> pa.Table:
        """Every epoch of every committed attempt; all columns or run_id, attempt and those named.

        `attempts` saves reading again which there are: a table of them with `epochs_file` and
        `epochs_digest`.
        """
        wanted = schema.chosen(schema.EPOCHS, ("run_id", "attempt"), columns)
        return self._reader.epochs(wanted, attempts=attempts)

    def runs(self, columns: Iterable[str] | None = None) -> pa.Table:
        """One row per run: its first success, else its latest attempt; columns as in `attempts`."""
        return views.runs_of(self.attempts(columns))

    def plans_table(self, columns: Iterable[str] | None = None) -> pa.Table:
        """The latest plan of every suite, one row per cell; all columns or suite and those named."""
        return plans.table(self._reader, schema.chosen(schema.PLANS, ("suite",), columns))

    def evaluations(self, columns: Iterable[str] | None = None) -> pa.Table:
        """Every evaluation of a trained run; all columns or what makes it one and those named."""
        wanted = schema.chosen(schema.EVALUATIONS, evaluations.KEYS, columns)
        return evaluations.table(self._reader, wanted)

    def save_evaluations(self, rows: Sequence[Evaluation]) -> bool:
        """Keep evaluations of one run, for good; False where another process kept the same ones."""
        check_name("run_id", rows[0].run_id)
        return evaluations.save(self._reader, rows)

    def plans(self) -> list[str]:
        """The suites that have a plan."""
        return plans.suites(self._reader)

    def plan(self, suite: str, digest: str | None = None) -> list[PlanRow]:
        """The cells of a suite's latest plan (of that digest); empty where there is none."""
        rows = plans.latest(self._reader, suite, digest).to_pylist()
        return [from_row(PlanRow, row) for row in rows]

    def plan_text(self, suite: str) -> str | None:
        """The suite file of its latest plan, as it was given; None where there is none."""
        return plans.text(self._reader, suite)

    def states(self) -> dict[str, RunState]:
        """How every run stands that was attempted."""
        names = ("attempt", "status", "failure_kind", "error")
        attempts = self.attempts(names)
        index, counts = views.standings(attempts)
        standing = attempts.take(index)
        columns = [standing.column(name).to_pylist() for name in ("run_id", *names)]
        rows = zip(*columns, counts.to_pylist(), strict=True)
        return {
            run_id: RunState(
                status=status, attempt=number, attempts=count, failure_kind=kind, error=error
            )
            for run_id, number, status, kind, error, count in rows
        }

    def open_claims(self) -> dict[str, dict[str, Any]]:
        """The latest claim of every run whose attempt is not closed, as it was given to `claim`."""
        names = sorted(self._reader.names("claims"))
        closed = self._reader.closed() if names else set()
        claims: dict[str, dict[str, Any]] = {}
        for name in names:
            if key_of(name) in closed:
                continue
            claim = self._reader.entry("claims", name, read_json)
            known = claims.get(claim["run_id"]) if claim else None
            if claim and (known is None or claim["attempt"] > known["attempt"]):
                claims[claim["run_id"]] = claim
        return claims

    def latest(self, run_id: str) -> Latest:
        """How the latest attempt at one run stands; lists no folder of files."""
        check_name("run_id", run_id)
        number, done = self._reader.packed_latest(run_id)
        closed = True
        while True:
            stem = f"{run_id}.{number + 1}"
            row = self.path / "attempts" / f"{stem}.parquet"
            there = row.exists()
            if not there and not (self.path / "claims" / f"{stem}.json").exists():
                break
            number, closed = number + 1, there
            for table in self._reader.good("attempts", _STATUS, [(row, None)] if there else []):
                done = done or table.column("status")[0].as_py() == "succeeded"
        claim = None
        if not closed:
            claim = self._reader.entry("claims", f"{run_id}.{number}.json", read_json)
        return Latest(number=number, claim=claim, succeeded=done)

    def decisions(self) -> dict[Key, dict[str, Any]]:
        """What was decided about attempts that ended, by run_id and attempt."""
        names = self._reader.names("decisions", optional=True)
        found = (self._reader.entry("decisions", name, read_sealed) for name in sorted(names))
        return {(held["run_id"], held["attempt"]): held for held in found if held}

    def runs_frame(self) -> pd.DataFrame:
        """`runs()` for pandas: integers and flags stay nullable, maps are dicts."""
        import pandas as pd

        types = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get
        frame: pd.DataFrame = self.runs().to_pandas(types_mapper=types, maps_as_pydicts="strict")
        return frame

    def relation(
        self, view: str, connection: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyRelation:
        """A view of the store for DuckDB; see `results.query.relation`."""
        from results import query

        return query.relation(self, view, connection)


def _same(held: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    """Whether two rows say the same, wherever their epochs lie. By repr, in which nan is nan."""
    return all(repr(held[name]) == repr(mine[name]) for name in mine if name != "epochs_file")
