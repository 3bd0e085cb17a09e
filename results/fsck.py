"""Checks every file of a store against its digest, its name and the rows that name it.

Changes nothing (`results.quarantine` does). A store may be checked while runs commit to it: what
vanishes meanwhile was collected, and what is being written is told from leftovers by its age.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from results import evaluations, generations, plans, schema
from results.errors import StoreError
from results.files import UNREADABLE, read_json, read_sealed
from results.folder import FOLDERS, MARKER, open_folder
from results.place import Place, open_binary
from results.reading import Key, Reader, epochs_key_of, key_of, keys_of

QUARANTINE = "quarantine"
REASON = ".reason.json"
"""Ending of the file beside a file in quarantine, or in place of one that was lost."""

_SETTLED_SECONDS = 60.0
"""A file that is this much older than the newest commit, by the file system's clock, is settled."""

_REMOVAL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One file that is not as it should be."""

    path: Place
    reason: str
    """What is wrong with it."""
    meaning: str
    """What follows for the results."""


@dataclass(kw_only=True)
class Report:
    """What a check found."""

    damaged: list[Problem] = field(default_factory=list)
    leftovers: list[Problem] = field(default_factory=list)
    """Of interrupted writes, and of races that were lost: harmless."""
    checked: Counter[str] = field(default_factory=Counter)
    """How many files were looked at, by folder."""


def check(path: Place) -> Report:
    """Look at every file. StoreError where the folder is no store or a newer peftgrid's."""
    return _Check(path.absolute()).report


class _Check:
    def __init__(self, path: Place) -> None:
        self.path = path
        self.report = Report()
        self._check_folders()
        self._reader = Reader(path)
        self._settled = self._newest_commit() - _SETTLED_SECONDS
        self._check_tables()
        self._check_attempts()
        self._check_epochs()
        self._check_entries("claims", read_json, "who opened the attempt is not known")
        self._check_entries("decisions", read_sealed, "why the run was tried again is not known")
        self._check_plans()
        for folder, what in (("models", "model"), ("predictions", "predictions")):
            self._check_kept(
                folder, what, f"a file of the run's {folder} is lost; its scores are not"
            )
        self._check_evaluations()
        self._check_checkpoints()
        self._check_hidden()

    def _damaged(self, path: Place, reason: object, meaning: str) -> None:
        text = str(reason) or type(reason).__name__
        self.report.damaged.append(Problem(path=path, reason=text, meaning=meaning))

    def _leftover(self, path: Place, reason: str) -> None:
        """Note a file that nothing needs, unless a live process may be writing it."""
        try:
            settled = path.stat().st_mtime < self._settled
        except OSError:
            return
        if settled:
            meaning = "nothing names it"
            self.report.leftovers.append(Problem(path=path, reason=reason, meaning=meaning))

    def _check_folders(self) -> None:
        self.report.checked[MARKER] += 1
        try:
            open_folder(self.path, create=False)
        except StoreError as error:
            if not all((self.path / name).is_dir() for name in ("claims", "attempts")):
                raise
            if _newer(self.path / MARKER):
                raise
            self._damaged(self.path / MARKER, error, "no command opens the store")
        # A bucket has no folders that could be missing.
        for name in FOLDERS if isinstance(self.path, Path) else ():
            if not (self.path / name).is_dir():
                self._damaged(self.path / name, "the folder is missing", "what was in it is lost")

    def _newest_commit(self) -> float:
        pointers = (generations.pointer(self.path, n) for n in generations.numbers(self.path))
        files = (self.path / "attempts" / name for name in self._names("attempts"))
        return max((_mtime(path) for path in (*pointers, *files)), default=0.0)

    def _names(self, folder: str) -> list[str]:
        return sorted(self._reader.names(folder, optional=True))

    def _check_tables(self) -> None:
        parts = generations.Parts(self.path)
        columns = {"attempts": schema.ATTEMPTS, "epochs": schema.EPOCHS}
        meaning = "the generation before it and the files that are in neither are read instead"
        named: set[str] = set()
        for number in generations.numbers(self.path):
            pointer = generations.pointer(self.path, number)
            self.report.checked[generations.TABLES] += 1
            try:
                generation = generations.load(self.path, number)
            except FileNotFoundError:
                continue
            except UNREADABLE as error:
                self._damaged(pointer, error, meaning)
                continue
            named |= {part.file for _, part in generation.parts}
            for name, part in generation.parts:
                self.report.checked[generations.TABLES] += 1
                try:
                    parts.read(name, part, columns[name])
                except UNREADABLE as error:
                    if not pointer.exists():
                        break
                    self._damaged(pointer, f"names {part.file}: {error}", meaning)
                    if (pointer.parent / part.file).exists():
                        self._damaged(pointer.parent / part.file, error, meaning)

        for file in generations.part_files(self.path).keys() - named:
            self._leftover(self.path / generations.TABLES / file, "tables of no generation")

    def _check_attempts(self) -> None:
        covered = keys_of(self._reader.packed_keys())
        for name in self._names("attempts"):
            self.report.checked["attempts"] += 1
            path = self.path / "attempts" / name
            again = "the run counts as not done unless another attempt succeeded"
            kept = "nothing is lost: the compacted tables have its row"
            for reason in self._faults("attempts", schema.ATTEMPTS, path):
                self._damaged(path, reason, kept if key_of(name) in covered else again)

    def _faults(
        self, name: str, columns: tuple[schema.Column, ...], path: Place, digest: str | None = None
    ) -> Iterator[str]:
        """What is wrong with a file, if anything; a file that has gone meanwhile is not."""
        self._reader.bad.pop(path, None)
        for _ in self._reader.good(name, columns, [(path, digest)]):
            pass
        if path in self._reader.bad and path.exists():
            yield self._reader.bad[path]

    def _check_epochs(self) -> None:
        named = tuple(c for c in schema.ATTEMPTS if c.name in _EPOCHS_COLUMNS)
        rows: list[dict[str, Any]] = self._reader.attempts(named).to_pylist()
        packed = keys_of(self._reader.packed("epochs", schema.EPOCHS))
        closed: dict[Key, str] = {}
        for row in rows:
            key = row["run_id"], row["attempt"]
            closed[key] = name = PurePosixPath(row["epochs_file"] or "").name
            if name:
                self._check_curve(self.path / "epochs" / name, row["epochs_digest"], key in packed)
        for name in self._names("epochs"):
            self.report.checked["epochs"] += 1
            epochs_key = epochs_key_of(name)
            if epochs_key is None:
                self._damaged(
                    self.path / "epochs" / name, "not a file of epochs", "nothing names it"
                )
            elif closed.get(epochs_key) != name:
                self._leftover(self.path / "epochs" / name, "epochs of no committed attempt")

    def _check_curve(self, path: Place, digest: str, packed: bool) -> None:
        lost = "the attempt's learning curve is lost; its scores are not"
        kept = "nothing is lost: the compacted tables have its epochs"
        for reason in self._faults("epochs", schema.EPOCHS, path, digest):
            self._damaged(path, reason, kept if packed else lost)
        known = self.path / QUARANTINE / "epochs" / (path.name + REASON)
        if not packed and not path.exists() and not known.exists():
            # A generation may have been made, and the file collected, since the rows were read.
            key = epochs_key_of(path.name)
            if key not in keys_of(self._reader.packed("epochs", schema.EPOCHS)):
                self._damaged(path, "the file is missing", lost)

    def _check_entries(
        self, folder: str, read: Callable[[Place], dict[str, Any]], meaning: str
    ) -> None:
        for name in self._names(folder):
            self.report.checked[folder] += 1
            path = self.path / folder / name
            self._reader.bad.pop(path, None)
            self._reader.entry(folder, name, read)
            if path in self._reader.bad:
                self._damaged(path, self._reader.bad[path], meaning)

    def _check_plans(self) -> None:
        if not (self.path / "plans").is_dir():
            return
        meaning = "the plan before it counts; `run` saves a new one"
        for path in sorted(plans.files(self._reader).values()):
            self.report.checked["plans"] += 1
            for reason in self._faults("plans", schema.PLANS, path):
                self._damaged(path, reason, meaning)

    def _check_evaluations(self) -> None:
        meaning = "scores of a trained run are lost; `evaluate` makes them again"
        for name in sorted(evaluations.names(self._reader)):
            self.report.checked[evaluations.FOLDER] += 1
            path = self.path / evaluations.FOLDER / name
            for reason in self._faults(evaluations.FOLDER, schema.EVALUATIONS, path):
                self._damaged(path, reason, meaning)

    def _check_kept(self, folder: str, what: str, meaning: str) -> None:
        """Files beside the tables, which rows name with their digests."""
        wanted = (f"{what}_file", f"{what}_digest")
        columns = tuple(c for c in schema.ATTEMPTS if c.name in ("run_id", "attempt", *wanted))
        rows: list[dict[str, Any]] = self._reader.attempts(columns).to_pylist()
        digests = {row[wanted[0]]: row[wanted[1]] for row in rows if row[wanted[0]]}
        for file, digest in digests.items():
            path = self.path / folder / PurePosixPath(file).name
            known = self.path / QUARANTINE / folder / (path.name + REASON)
            try:
                with open_binary(path) as opened:
                    if hashlib.file_digest(opened, "sha256").hexdigest() != digest:
                        self._damaged(path, "its digest is not the one in its row", meaning)
            except OSError as error:
                if not known.exists():
                    self._damaged(path, error.strerror, meaning)
        for name in self._names(folder):
            self.report.checked[folder] += 1
            if f"{folder}/{name}" not in digests:
                self._leftover(self.path / folder / name, "no attempt's row names it")

    def _check_checkpoints(self) -> None:
        meaning = "the run goes on from its checkpoint before, or from the start"
        for path in sorted((self.path / "checkpoints").glob("*/[!.]*")):
            self.report.checked["checkpoints"] += 1
            described = path.with_suffix(".json")
            if path.suffix != ".json":
                if not described.exists():
                    self._leftover(path, "a checkpoint that nothing describes")
                continue
            tensors = path.with_suffix(".safetensors")
            try:
                held = read_json(path).get("digest")
                with open_binary(tensors) as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except (OSError, ValueError) as error:
                # A run that ends removes both, one after the other.
                if isinstance(error, FileNotFoundError):
                    time.sleep(_REMOVAL_SECONDS)
                if path.exists():
                    self._damaged(path, error, meaning)
                continue
            if held != digest and path.exists() and tensors.exists():
                self._damaged(path, f"describes {tensors.name} with another digest", meaning)
                self._damaged(tensors, "its digest is not the one beside it", meaning)

    def _check_hidden(self) -> None:
        for pattern in (".*", "*/.*", "checkpoints/*/.*"):
            for path in sorted(self.path.glob(pattern)):
                if path.is_file() and QUARANTINE not in path.relative_to(self.path).parts:
                    self._leftover(path, "left by a write that was interrupted")


_EPOCHS_COLUMNS = ("run_id", "attempt", "epochs_file", "epochs_digest")


def _newer(marker: Place) -> bool:
    """Whether the marker is whole and of a format that is not known here."""
    try:
        return isinstance(json.loads(marker.read_bytes())["peftgrid_store"], int)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mtime(path: Place) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
