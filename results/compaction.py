"""Making generations of compacted tables, and removing what two of them hold.

Compacting deletes nothing. Collecting deletes a file only where the two newest generations both
cover it, after both were verified whole: a damaged one can always be told from the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from results import generations, schema
from results.errors import StoreError
from results.files import UNREADABLE, remove
from results.generations import Generation
from results.reading import Key, Reader, epochs_key_of, key_of, keys_of

DUE = 256
"""Attempts in files of their own, which take a quarter of a second to read, or more."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """How many files `gc` deleted."""

    attempts: int = 0
    epochs: int = 0
    claims: int = 0
    leases: int = 0
    tables: int = 0
    """Pointers and compacted files of old generations, and leftovers of failed compactions."""


def compact(reader: Reader, *, anew: bool = False) -> int | None:
    """Make the next generation from all that is committed and readable; its number.

    None, and nothing changed, where the newest one covers everything already (unless `anew`) or
    where another process made that generation first. StoreError where a newer peftgrid wrote
    some of it, because columns would be lost, or where no generation that is there can be read.
    """
    known = generations.numbers(reader.path)
    newest = _newest_readable(reader, known)
    if known and newest is None and not anew:
        raise StoreError(
            f"{reader.path}: no generation of tables can be read; `peftgrid fsck --repair` makes "
            "a new one of what is left"
        )
    attempts = reader.attempts()
    epochs = reader.epochs(attempts=attempts)
    if reader.version > schema.SCHEMA_VERSION:
        raise StoreError(
            f"{reader.path}: written with schema {reader.version}, allowed: up to "
            f"{schema.SCHEMA_VERSION}; a newer peftgrid compacts it"
        )
    found = len(attempts), len(epochs)
    held = (newest.attempts.rows, newest.epochs.rows) if newest else (0, 0)
    if not anew and min(now - before for now, before in zip(found, held, strict=True)) < 0:
        raise StoreError(f"{reader.path}: generation {known[0]} could not be read; try again")
    if not anew and found == held and (newest is None or newest.number == known[0]):
        return None
    number = (known[0] if known else 0) + 1
    return number if generations.write(reader.path, number, attempts, epochs) else None


def is_due(reader: Reader) -> bool:
    """Whether so many attempts are in files of their own that a generation pays for itself."""
    packed = keys_of(reader.packed_keys())
    fresh = reader.attempt_keys() - packed
    return len(fresh) >= max(DUE, len(packed) // 8)


def _newest_readable(reader: Reader, known: list[int]) -> Generation | None:
    parts = generations.Parts(reader.path)
    for number in known:
        with contextlib.suppress(*UNREADABLE):
            generation = generations.load(reader.path, number)
            for _, part in generation.parts:
                parts.check(part)
            return generation
    return None


def collect(reader: Reader) -> Collected:
    """Delete what the two newest generations hold, and older generations.

    StoreError, and nothing deleted, where a generation is damaged or lacks what an older one has.
    """
    leases = _collect_leases(reader)
    verified = _verified(reader)
    if len(verified) < 2:
        return Collected(leases=leases)
    newest, previous, *old = verified
    for later, earlier in [(newest, previous), *((previous, each) for each in old)]:
        lacking = (earlier.attempts.keys() - later.attempts.keys()) | (
            earlier.epochs - later.epochs
        )
        if lacking:
            run_id, attempt = min(lacking)
            raise StoreError(
                f"{reader.path}: generation {later.number} lacks attempt {attempt} of {run_id}, "
                f"which {earlier.number} has; `peftgrid fsck` says more"
            )
    rows, epochs = previous.attempts, previous.epochs

    def unneeded_epochs(name: str) -> bool:
        key = epochs_key_of(name)
        # Of a closed attempt also what a loser of its race left.
        return key in epochs or (key in rows and rows[key] != name)

    return Collected(
        attempts=_collect(reader, "attempts", lambda name: key_of(name) in rows),
        epochs=_collect(reader, "epochs", unneeded_epochs),
        claims=_collect(reader, "claims", lambda name: key_of(name) in rows),
        leases=leases,
        tables=_collect_tables(reader, newest.number, (newest.generation, previous.generation)),
    )


def _verified(reader: Reader) -> list[_Verified]:
    """Every generation, the newest first; again where another process changes them meanwhile."""
    while True:
        known = generations.numbers(reader.path)
        try:
            return [_Verified(reader, number) for number in known]
        except StoreError:
            if generations.numbers(reader.path) == known:
                raise


class _Verified:
    """A generation that was read whole; StoreError where it is damaged."""

    def __init__(self, reader: Reader, number: int) -> None:
        self.number = number
        parts = generations.Parts(reader.path)
        try:
            self.generation = generations.load(reader.path, number)
            keys = tuple(c for c in schema.ATTEMPTS if c.name in ("run_id", "attempt"))
            named = (*keys, *(c for c in schema.ATTEMPTS if c.name == "epochs_file"))
            attempts, _ = parts.read("attempts", self.generation.attempts, named)
            epochs, _ = parts.read("epochs", self.generation.epochs, keys)
        except UNREADABLE as error:
            raise StoreError(
                f"{generations.pointer(reader.path, number)}: damaged ({error}); nothing is "
                "deleted before `peftgrid fsck --repair`"
            ) from error
        self.attempts: dict[Key, str | None] = {
            (row["run_id"], row["attempt"]): row["epochs_file"]
            and PurePosixPath(row["epochs_file"]).name
            for row in attempts.to_pylist()
        }
        self.epochs = keys_of(epochs)


def _collect(reader: Reader, folder: str, unneeded: Callable[[str], bool]) -> int:
    names = [name for name in reader.names(folder) if unneeded(name)]
    return sum(remove(reader.path / folder / name) for name in names)


def _collect_tables(reader: Reader, newest: int, kept: tuple[Generation, ...]) -> int:
    """Older pointers, then the files that no kept generation names."""
    removed = 0
    for number in generations.numbers(reader.path):
        if number < min(generation.number for generation in kept):
            removed += remove(generations.pointer(reader.path, number))
    needed = {part.file for generation in kept for _, part in generation.parts}
    for name, number in generations.part_files(reader.path).items():
        # A process that is making the next generation has written files for a higher number.
        if name not in needed and number <= newest:
            removed += remove(reader.path / generations.TABLES / name)
    return removed


def _collect_leases(reader: Reader) -> int:
    """What is left of leases that were followed by another."""
    from results.lease import split_name

    named = {name: split_name(name) for name in reader.names("lease", optional=True)}
    highest: dict[str, int] = {}
    for name, (suite, number) in ((n, s) for n, s in named.items() if s):
        if name.endswith(".json"):
            highest[suite] = max(highest.get(suite, 0), number)
    old = [n for n, s in named.items() if s and s[1] < highest.get(s[0], 0)]
    return sum(remove(reader.path / "lease" / name) for name in old)
