"""The store: a folder in which every attempt leaves exactly one row and nothing is overwritten.

    store.json                                 format version; makes the folder a store
    claims/<run_id>.<n>.json                   attempt n was opened
    epochs/<run_id>.<n>.<random>.parquet       its epochs, named by its row with their digest
    attempts/<run_id>.<n>.parquet              attempt n is closed: this file is the commit
    plans/<suite>.<digest8>.<n>.parquet|.yaml  the n-th plan of the suite and the suite's text
    decisions/<run_id>.<n>.json                whether the run was tried again after attempt n, and why
    checkpoints/<run_id>/                      resumable state of a run that is not finished
    models/<run_id>.<n>.<random>.safetensors   what a finished run trained (see `results.models`)
    lease/<suite>.<n>.*                        the drivers of a suite (see `results.lease`)
    logs/<run_id>.<n>.log                      what a process wrote as it crashed or hung

Claims and attempts are opened by exclusive create (see `results.files`): of any number of
processes that close one attempt, one wins and the others change nothing. Reading needs no
permission to write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from results import schema, views
from results.checks import check_name, check_rows
from results.errors import StoreError as StoreError
from results.files import create_exclusive, parquet_bytes, read_parquet
from results.folder import open_folder
from results.record import Attempt, Epoch, PlanRow, from_row, to_table

if TYPE_CHECKING:
    import pandas as pd

_UNREADABLE = (pa.ArrowException, ValueError, OSError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunState:
    """How a run stands: by its first success, else by its latest attempt."""

    status: str
    attempt: int
    """The attempt that stands for the run."""
    attempts: int
    failure_kind: str | None
    error: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latest:
    """How the latest attempt at a run stands."""

    number: int
    """0 where there is none yet."""
    claim: dict[str, Any] | None
    """What `claim` was given; None where the attempt is closed, or its claim cannot be read."""
    succeeded: bool
    """Whether any attempt succeeded: then the run is done."""


class Store:
    """One store. Make it with `Store.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bad: dict[Path, str] = {}

    @staticmethod
    def open(path: str | os.PathLike[str], create: bool = False) -> Store:
        """The store in `path`. With `create` it is made where missing and must be writable."""
        return Store(open_folder(path, create))

    @property
    def bad_files(self) -> list[tuple[Path, str]]:
        """Files set aside so far, because they are torn, foreign or misnamed, with the reason."""
        return sorted(self._bad.items())

    # Writing

    def claim(self, run_id: str, info: Mapping[str, Any]) -> int:
        """Open the next attempt at a run; its number, above every claim and attempt of the run."""
        number = self.latest(run_id).number + 1
        while not self.try_claim(run_id, number, info):
            number += 1
        return number

    def try_claim(self, run_id: str, number: int, info: Mapping[str, Any]) -> bool:
        """Open attempt `number`, which follows the latest. False where another process did."""
        check_name("run_id", run_id)
        body = json.dumps({**info, "run_id": run_id, "attempt": number}, default=str)
        return create_exclusive(self.path / "claims" / f"{run_id}.{number}.json", body.encode())

    def commit(self, attempt: Attempt, epochs: Sequence[Epoch] = ()) -> bool:
        """Close an attempt, for good. False where it was closed before: then nothing is changed."""
        check_name("run_id", attempt.run_id)
        key = attempt.run_id, attempt.attempt
        assert all((e.run_id, e.attempt) == key for e in epochs), "epochs of another attempt"
        stem = f"{attempt.run_id}.{attempt.attempt}"
        row = attempt.to_row()
        if epochs:
            # The random part keeps the loser of a race off the file that the winner's row names.
            epochs_path = self.path / "epochs" / f"{stem}.{secrets.token_hex(4)}.parquet"
            table = to_table((epoch.to_row() for epoch in epochs), schema.EPOCHS)
            data = parquet_bytes(table, "epochs")
            create_exclusive(epochs_path, data)
            row["epochs_file"] = f"epochs/{epochs_path.name}"
            row["epochs_digest"] = hashlib.sha256(data).hexdigest()
        data = parquet_bytes(to_table([row], schema.ATTEMPTS), "attempts")
        won = create_exclusive(self.path / "attempts" / f"{stem}.parquet", data)
        if epochs and not won:
            epochs_path.unlink(missing_ok=True)
        return won

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
        assert rows, "a plan without cells"
        assert all((row.suite, row.suite_digest) == (suite, digest) for row in rows)
        number = max((n for name, n, _ in self._plan_files() if name == suite), default=0)
        if self._latest_plan(suite).equals(_plan_table(rows, number, overrides)):
            return
        while True:
            number += 1
            stem = self.path / "plans" / f"{suite}.{digest[:8]}.{number}"
            create_exclusive(stem.with_name(f"{stem.name}.yaml"), text.encode())
            data = parquet_bytes(_plan_table(rows, number, overrides), "plans")
            if create_exclusive(stem.with_name(f"{stem.name}.parquet"), data):
                return

    # Reading

    def attempts(self, columns: Iterable[str] | None = None) -> pa.Table:
        """Every attempt, ordered by run and number; all columns or those named."""
        keys = ("run_id", "attempt", "status")
        wanted: tuple[schema.Column, ...] = schema.ATTEMPTS
        if columns is not None:
            names = {*keys, *columns}
            wanted = tuple(column for column in schema.ATTEMPTS if column.name in names)
        return self._read("attempts", wanted, self._files("attempts")).sort_by(
            [("run_id", "ascending"), ("attempt", "ascending")]
        )

    def epochs(self) -> pa.Table:
        """Every epoch of every attempt that is committed."""
        names = self.attempts(["epochs_file"]).column("epochs_file").to_pylist()
        paths = (self.path / "epochs" / PurePosixPath(name).name for name in names if name)
        return self._read("epochs", schema.EPOCHS, paths)

    def runs(self, columns: Iterable[str] | None = None) -> pa.Table:
        """One row per run: its first success, else its latest attempt; columns as in `attempts`."""
        return views.runs_of(self.attempts(columns))

    def plans_table(self) -> pa.Table:
        """The latest plan of every suite, one row per cell."""
        empty = schema.arrow_schema(schema.PLANS).empty_table()
        return pa.concat_tables([empty, *(self._latest_plan(suite) for suite in self.plans())])

    def plans(self) -> list[str]:
        """The suites that have a plan."""
        return sorted({suite for suite, _, _ in self._plan_files()})

    def plan(self, suite: str, digest: str | None = None) -> list[PlanRow]:
        """The cells of a suite's latest plan (of that digest); empty where there is none."""
        rows = self._latest_plan(suite, digest).to_pylist()
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
        closed = {path.stem for path in self._files("attempts")}
        claims: dict[str, dict[str, Any]] = {}
        for path in self._files("claims"):
            if path.stem in closed:
                continue
            try:
                claim = json.loads(path.read_bytes())
                number = int(claim["attempt"])
                if path.stem != f"{claim['run_id']}.{number}":
                    raise ValueError(f"holds attempt {number} of {claim['run_id']}")
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._bad[path] = f"not a claim: {error}"
                continue
            known = claims.get(claim["run_id"])
            if known is None or number > known["attempt"]:
                claims[claim["run_id"]] = claim
        return claims

    def latest(self, run_id: str) -> Latest:
        """How the latest attempt at one run stands; lists no folder."""
        check_name("run_id", run_id)
        number, claim = 0, None
        closed: dict[int, Path] = {}
        while True:
            stem = f"{run_id}.{number + 1}"
            path = self.path / "attempts" / f"{stem}.parquet"
            if not (path.exists() or (self.path / "claims" / f"{stem}.json").exists()):
                break
            number += 1
            closed |= {number: path} if path.exists() else {}
        if number and number not in closed:
            with contextlib.suppress(OSError, ValueError):
                claim = json.loads((self.path / "claims" / f"{run_id}.{number}.json").read_bytes())
        wanted = tuple(c for c in schema.ATTEMPTS if c.name in ("run_id", "attempt", "status"))
        done = (
            "succeeded"
            in self._read("attempts", wanted, closed.values()).column("status").to_pylist()
        )
        return Latest(number=number, claim=claim, succeeded=done)

    def save_decision(self, run_id: str, attempt: int, decision: Mapping[str, Any]) -> None:
        """Keep what was decided after a failed attempt; the first decision stands."""
        check_name("run_id", run_id)
        path = self.path / "decisions" / f"{run_id}.{attempt}.json"
        create_exclusive(path, json.dumps(decision).encode())

    def decisions(self) -> dict[tuple[str, int], dict[str, Any]]:
        """What was decided after failed attempts: `again` and `reason`, by run and attempt."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        if not (self.path / "decisions").exists():  # a store of an older version
            return found
        for path in self._files("decisions"):
            try:
                run_id, number, _ = path.name.split(".")
                found[run_id, int(number)] = dict(json.loads(path.read_bytes()))
            except (OSError, ValueError, TypeError) as error:
                self._bad[path] = f"not a decision: {error}"
        return found

    def runs_frame(self) -> pd.DataFrame:
        """`runs()` as a data frame: integers and flags stay nullable, maps are dicts."""
        import pandas as pd

        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = self.runs().to_pandas(
            types_mapper=nullable.get, maps_as_pydicts="strict"
        )
        return frame

    def _files(self, folder: str) -> list[Path]:
        return [self.path / folder / name for name in sorted(self._names(folder))]

    def _names(self, folder: str) -> list[str]:
        """The files in a folder of the store, without those that are still being written."""
        try:
            with os.scandir(self.path / folder) as entries:
                return [entry.name for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise StoreError(f"{self.path / folder}: cannot be read ({error.strerror})") from error

    def _plan_files(self) -> dict[tuple[str, int, str], Path]:
        """Every plan by (suite, number, digest8)."""
        named = [(path.name.split("."), path) for path in self._files("plans")]
        return {
            (parts[0], int(parts[2]), parts[1]): path
            for parts, path in named
            if len(parts) == 4 and parts[2].isdecimal() and parts[3] == "parquet"
        }

    def _latest_plan(self, suite: str, digest: str | None = None) -> pa.Table:
        for (name, _, _), path in sorted(self._plan_files().items(), reverse=True):
            if name != suite:
                continue
            table = self._read("plans", schema.PLANS, [path])
            if len(table) and digest in (None, table.column("suite_digest")[0].as_py()):
                return table
        return schema.arrow_schema(schema.PLANS).empty_table()

    def _read(
        self, name: str, columns: tuple[schema.Column, ...], paths: Iterable[Path]
    ) -> pa.Table:
        return pa.concat_tables(
            [schema.arrow_schema(columns).empty_table(), *self._good(name, columns, paths)]
        ).combine_chunks()

    def _good(
        self, name: str, columns: tuple[schema.Column, ...], paths: Iterable[Path]
    ) -> Iterator[pa.Table]:
        """The tables of the files that hold what their names say; the others are noted."""
        for path in paths:
            try:
                table = read_parquet(path, name, columns)
                check_rows(path, name, table)
            except _UNREADABLE as error:
                self._bad[path] = str(error)
            else:
                self._bad.pop(path, None)
                yield table


def _plan_table(rows: Sequence[PlanRow], number: int, overrides: Sequence[str]) -> pa.Table:
    return to_table((row.to_row(plan=number, overrides=overrides) for row in rows), schema.PLANS)
