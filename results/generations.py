"""Generations of compacted tables: many small files read as two large ones.

    tables/gen-<n>.json                   the n-th generation: its two files with their digests
    tables/attempts-<n>.<random>.parquet  every attempt that was readable when it was made
    tables/epochs-<n>.<random>.parquet    their epochs

A generation is made whole by exclusive create of its pointer, the highest undamaged one counts,
and each holds everything of the one before. It covers the attempt files that its rows name, and
the epochs files of the attempts that its epochs name: a covered file is not read any more, and
what is written under its name later counts for nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from results import schema
from results.errors import StoreError
from results.files import (
    create_exclusive,
    make_folder,
    parquet_bytes,
    read_packed,
    read_sealed,
    remove,
    sealed_json,
)
from results.place import Place, open_binary

TABLES = "tables"
_POINTER = re.compile(r"gen-([1-9][0-9]*)\.json")
_PART = re.compile(r"(?:attempts|epochs)-([1-9][0-9]*)\.[0-9a-f]+\.parquet")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One compacted file of a generation."""

    file: str
    """Its name in `tables/`."""
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What one pointer says."""

    number: int
    schema: int
    """Version of the tables' schema that it was written with."""
    attempts: Part
    epochs: Part

    @property
    def parts(self) -> tuple[tuple[str, Part], ...]:
        """The two files by table."""
        return ("attempts", self.attempts), ("epochs", self.epochs)


def pointer(store: Place, number: int) -> Place:
    """Where the pointer of a generation is."""
    return store / TABLES / f"gen-{number}.json"


def numbers(store: Place) -> list[int]:
    """Every generation whose pointer is there, whether damaged or not; the newest first."""
    return sorted((int(m[1]) for m in map(_POINTER.fullmatch, _names(store)) if m), reverse=True)


def part_files(store: Place) -> dict[str, int]:
    """Every compacted file by name, with the number of the generation it was made for."""
    return {m[0]: int(m[1]) for m in map(_PART.fullmatch, _names(store)) if m}


def _names(store: Place) -> list[str]:
    try:
        return [path.name for path in (store / TABLES).iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{store / TABLES}: cannot be read ({error.strerror})") from error


def load(store: Place, number: int) -> Generation:
    """What the pointer says; ValueError or OSError where it is damaged."""
    held = read_sealed(pointer(store, number))
    try:
        return Generation(
            number=held["number"],
            schema=held["schema"],
            attempts=Part(**held["attempts"]),
            epochs=Part(**held["epochs"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a generation of tables: {error}") from error


class Parts:
    """Reads compacted files. The digest of each is checked once; its pages, on every reading."""

    def __init__(self, store: Place) -> None:
        self._store = store
        self._checked: dict[str, tuple[int, int, int]] = {}

    def read(
        self, name: str, part: Part, columns: tuple[schema.Column, ...]
    ) -> tuple[pa.Table, int]:
        """`columns` of table `name` and the schema version; ValueError or OSError if damaged."""
        path = self._store / TABLES / PurePosixPath(part.file).name
        status = path.stat()
        signature = status.st_ino, status.st_size, status.st_mtime_ns
        # A bucket checks bytes itself, and reading all of them would cost more than the answer.
        if isinstance(path, Path) and self._checked.get(part.file) != signature:
            self.check(part)
            self._checked[part.file] = signature
        return read_packed(path, name, columns)

    def check(self, part: Part) -> None:
        """ValueError unless the whole file has the digest that its pointer names."""
        with open_binary(self._store / TABLES / PurePosixPath(part.file).name) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != part.sha256:
                raise ValueError("its digest is not the one that its generation names")


def write(store: Place, number: int, attempts: pa.Table, epochs: pa.Table) -> bool:
    """Make a generation. False, and nothing left behind, where another process made that one."""
    folder = make_folder(store / TABLES)
    made: list[Place] = []

    def part(name: str, table: pa.Table) -> dict[str, Any]:
        path = folder / f"{name}-{number}.{secrets.token_hex(4)}.parquet"
        data = parquet_bytes(table, name, packed=True)
        made.append(path)
        create_exclusive(path, data)
        digest = hashlib.sha256(data).hexdigest()
        return asdict(Part(file=path.name, sha256=digest, rows=len(table)))

    target = pointer(store, number)
    try:
        body = {
            "number": number,
            "schema": schema.SCHEMA_VERSION,
            "attempts": part("attempts", attempts),
            "epochs": part("epochs", epochs),
        }
        won = create_exclusive(target, sealed_json(body))
    except StoreError:
        # A pointer may be there although making it durable failed; then it needs its files.
        won = target.exists()
        if not won:
            _discard(made)
        raise
    if not won:
        _discard(made)
    return won


def _discard(paths: list[Place]) -> None:
    for path in paths:
        remove(path)
