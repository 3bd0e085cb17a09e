"""Reading a store: the newest undamaged generation and the files that it does not cover.

Files are listed before the generation is chosen. What is gone from a list is then covered by the
generation, because files are only deleted when two generations hold them; and where a file
vanishes while it is being read, a newer generation than at the start says that all is to be read
again. Damaged files are noted with the reason and left out.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from results import generations, ordering, schema
from results.checks import check_rows
from results.errors import StoreError
from results.files import UNREADABLE, listed, read_parquet
from results.place import Place

Key = tuple[str, int]
"""run_id and number of an attempt."""

T = TypeVar("T")
_NAMED = re.compile(r"([A-Za-z0-9_-]+)\.([1-9][0-9]*)\.(?:json|parquet)")
_REQUESTS = 16
"""Files of a bucket that are asked for at once."""
_EPOCHS_NAMED = re.compile(r"([A-Za-z0-9_-]+)\.([1-9][0-9]*)\.[0-9a-f]+\.parquet")


class _Pass(threading.local):
    """What one thread found missing while it read."""

    def __init__(self) -> None:
        self.vanished: set[Place] = set()


class Reader:
    """Reads the files of one store."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.bad: dict[Place, str] = {}
        self.version = 0
        """The newest schema version seen in any file."""
        self._parts = generations.Parts(path)
        self._pass = _Pass()
        self._packed_keys: tuple[int, pa.Table] | None = None

    # Tables

    def attempts(self, columns: tuple[schema.Column, ...] = schema.ATTEMPTS) -> pa.Table:
        """Every attempt, ordered by run and number. `columns` include run_id and attempt."""
        return self._steadily(lambda: self._attempts(columns))

    def epochs(
        self,
        columns: tuple[schema.Column, ...] = schema.EPOCHS,
        *,
        attempts: pa.Table | None = None,
    ) -> pa.Table:
        """Every epoch of every committed attempt, ordered by run and attempt; `columns` as above.

        `attempts`, where they were read already, save reading which epochs there are.
        """
        return self._steadily(lambda: self._epochs(columns, attempts))

    def closed(self) -> set[Key]:
        """The attempts that are closed, whether their rows can be read or not."""
        listed = self.attempt_keys()
        return listed | keys_of(self.packed_keys())

    def attempt_keys(self) -> set[Key]:
        """The attempts that have a file of their own, whether it can be read or not."""
        return {key for key in map(key_of, self.names("attempts")) if key}

    def packed_keys(self) -> pa.Table:
        """run_id, attempt and status of what the newest generation covers; read once per generation."""
        newest = next(iter(generations.numbers(self.path)), 0)
        if self._packed_keys is None or self._packed_keys[0] != newest:
            wanted = tuple(c for c in schema.ATTEMPTS if c.name in (*ordering.KEYS, "status"))
            self._packed_keys = newest, self._steadily(lambda: self.packed("attempts", wanted))
        return self._packed_keys[1]

    def packed_latest(self, run_id: str) -> tuple[int, bool]:
        """The highest attempt at the run in the newest generation (0: none), and if one succeeded."""
        keys = self.packed_keys()
        own = keys.filter(pc.equal(keys.column("run_id"), run_id))
        done = pc.any(pc.equal(own.column("status"), "succeeded"), min_count=0).as_py()
        return pc.max(own.column("attempt")).as_py() or 0, bool(done)

    def is_packed(self, key: Key) -> bool:
        """Whether the newest generation covers the attempt."""
        keys = self.packed_keys()
        same = pc.and_(
            pc.equal(keys.column("run_id"), key[0]), pc.equal(keys.column("attempt"), key[1])
        )
        return bool(pc.any(same, min_count=0).as_py())

    def packed(self, name: str, columns: tuple[schema.Column, ...]) -> pa.Table:
        """Table `name` of the newest generation in which it is undamaged; else no rows."""
        for number in generations.numbers(self.path):
            place = generations.pointer(self.path, number)
            try:
                generation = generations.load(self.path, number)
                self.bad.pop(place, None)
                part = dict(generation.parts)[name]
                place = place.with_name(part.file)
                table, version = self._parts.read(name, part, columns)
            except UNREADABLE as error:
                self.note(place, error)
            else:
                self.bad.pop(place, None)
                self.version = max(self.version, version)
                return table
        return schema.arrow_schema(columns).empty_table()

    def _attempts(self, columns: tuple[schema.Column, ...]) -> pa.Table:
        folder = self.path / "attempts"
        named = {name: key_of(name) for name in sorted(self.names("attempts"))}
        base = self.packed("attempts", columns)
        ids = pa.array({key[0] for key in named.values() if key}, type=pa.string())
        covered = keys_of(base.filter(pc.is_in(base.column("run_id"), value_set=ids)))
        fresh = [(folder / name, None) for name, key in named.items() if key not in covered]
        return ordering.merged(base, list(self.good("attempts", columns, fresh)))

    def _epochs(self, columns: tuple[schema.Column, ...], rows: pa.Table | None) -> pa.Table:
        wanted = (*ordering.KEYS, "epochs_file", "epochs_digest")
        if rows is None:
            rows = self._attempts(tuple(c for c in schema.ATTEMPTS if c.name in wanted))
        base = self.packed("epochs", columns)
        uncovered = pc.invert(ordering.among(rows, ordering.distinct(base)))
        fresh = [
            (self.path / "epochs" / PurePosixPath(row["epochs_file"]).name, row["epochs_digest"])
            for row in rows.filter(uncovered).select(wanted).to_pylist()
            if row["epochs_file"]
        ]
        return ordering.merged(base, list(self.good("epochs", columns, fresh)))

    def _steadily(self, read: Callable[[], T]) -> T:
        """What `read` gives, again where files vanished because another process removed them."""
        while True:
            newest = generations.numbers(self.path)[:1]
            vanished = self._pass.vanished = set()
            result = read()
            if not vanished or generations.numbers(self.path)[:1] == newest:
                return result
            for path in vanished:
                self.bad.pop(path, None)

    # Files

    def names(self, folder: str, *, optional: bool = False) -> list[str]:
        """The files in a folder of the store, without those that are still being written.

        StoreError where the folder is missing, unless it is `optional`, or cannot be read.
        """
        try:
            return [name for name in listed(self.path / folder) if not name.startswith(".")]
        except OSError as error:
            if optional and isinstance(error, FileNotFoundError):
                return []
            raise StoreError(f"{self.path / folder}: cannot be read ({error.strerror})") from error

    def good(
        self,
        name: str,
        columns: tuple[schema.Column, ...],
        files: Iterable[tuple[Place, str | None]],
    ) -> Iterator[pa.Table]:
        """The tables of the files, given with their digests, that hold what their names say."""
        for path, found in _read_all(name, columns, files):
            if isinstance(found, Exception):
                self.note(path, found)
            else:
                table, version = found
                self.bad.pop(path, None)
                self.version = max(self.version, version)
                yield table

    def entry(
        self, folder: str, name: str, read: Callable[[Place], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """What the JSON file of an attempt holds; None where it is damaged, foreign or gone."""
        path = self.path / folder / name
        try:
            held = read(path)
            key = held["run_id"], held["attempt"]
            if key != key_of(name):
                raise ValueError(f"holds attempt {key[1]} of {key[0]}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            self.note(path, ValueError(f"not a {folder[:-1]}: {error}"))
            return None
        self.bad.pop(path, None)
        return held

    def note(self, path: Place, error: Exception) -> None:
        """Set a file aside; one that is missing may have been removed by `gc` a moment ago."""
        self.bad[path] = str(error)
        if isinstance(error, FileNotFoundError):
            self._pass.vanished.add(path)


def _read_all(
    name: str, columns: tuple[schema.Column, ...], files: Iterable[tuple[Place, str | None]]
) -> Iterator[tuple[Place, tuple[pa.Table, int] | Exception]]:
    """Each file, in order, with its table and schema version, or with what is wrong with it.

    Of a folder in one thread: several spent longer waiting for one another than they saved. What
    a bucket takes to answer is waited for in many.
    """

    def one(file: tuple[Place, str | None]) -> tuple[Place, tuple[pa.Table, int] | Exception]:
        path, digest = file
        try:
            table, version = read_parquet(path, name, columns, digest)
            check_rows(path, name, table)
        except UNREADABLE as error:
            return path, error
        return path, (table, version)

    wanted = list(files)
    if len(wanted) < 2 or isinstance(wanted[0][0], Path):
        yield from map(one, wanted)
        return
    with ThreadPoolExecutor(_REQUESTS) as pool:
        yield from pool.map(one, wanted)


def key_of(name: str) -> Key | None:
    """The attempt whose file in claims, attempts or decisions has this name."""
    named = _NAMED.fullmatch(name)
    return (named[1], int(named[2])) if named else None


def epochs_key_of(name: str) -> Key | None:
    """The attempt whose file in epochs has this name."""
    named = _EPOCHS_NAMED.fullmatch(name)
    return (named[1], int(named[2])) if named else None


def keys_of(table: pa.Table) -> set[Key]:
    """The attempts that the rows of a table belong to."""
    return set(zip(*(table.column(name).to_pylist() for name in ordering.KEYS), strict=True))
