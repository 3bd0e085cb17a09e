"""Repairing a store: damaged files are moved aside, and tables are made anew.

    quarantine/<folder>/<name>               the file as it was found; `<name>.1` where that is taken
    quarantine/<folder>/<name>.reason.json   why; alone where the file is lost

Nothing is deleted and nothing overwritten. Whoever still writes a file that is moved gets an
error and writes it again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from results import compaction, generations
from results.errors import StoreError
from results.files import create_exclusive, make_folder, move
from results.folder import FOLDERS, MARKER, open_folder
from results.fsck import QUARANTINE, REASON, Problem, Report, check
from results.place import Place
from results.reading import Reader, key_of


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was done."""

    moved: dict[Place, Place]
    """Where each damaged or left-over file is now; its reason's file where it was missing."""
    generation: int | None
    """The generation of tables that was made, if one was."""
    after: Report
    """What a new check found."""


def repair(path: Place, report: Report) -> Repair:
    """Mend what `check` found in the store; StoreError where that fails."""
    store = path.absolute()
    moved: dict[Place, Place] = {}
    problems = {problem.path: problem for problem in (*report.damaged, *report.leftovers)}
    _mend_folders(store, problems, moved)
    generation = None
    if any(place.parent == store / generations.TABLES for place in problems):
        # Made before anything is moved, so that no reader meets a gap and no number is used again.
        generation = compaction.compact(Reader(store), anew=True)
    for place, problem in problems.items():
        moved[place] = _set_aside(store, problem)
        key = key_of(place.name)
        if place.parent == store / "claims" and key is not None:
            # The number stays taken; nobody knows by whom.
            claim = {"run_id": key[0], "attempt": key[1], "job": None, "hostname": None}
            create_exclusive(place, json.dumps(claim).encode())
    return Repair(moved=moved, generation=generation, after=check(store))


def _mend_folders(store: Place, problems: dict[Place, Problem], moved: dict[Place, Place]) -> None:
    for name in FOLDERS:
        if problems.pop(store / name, None):
            moved[store / name] = make_folder(store / name)
    problem = problems.pop(store / MARKER, None)
    if problem is not None:
        moved[store / MARKER] = _set_aside(store, problem)
        open_folder(store, create=True, foreign=True)


def _set_aside(store: Place, problem: Problem) -> Place:
    """Move the file to quarantine with the reason beside it; where it is now."""
    where = store / QUARANTINE
    for part in (None, *problem.path.relative_to(store).parent.parts):
        where = make_folder(where / part if part else where)
    number = 0
    while True:
        target = where / (problem.path.name + (f".{number}" if number else ""))
        reason = target.with_name(target.name + REASON)
        body = {"path": str(problem.path.relative_to(store)), "reason": problem.reason}
        body["meaning"] = problem.meaning
        # Whoever makes the reason's file owns the name.
        if not target.exists() and create_exclusive(reason, json.dumps(body, indent=1).encode()):
            break
        number += 1
    try:
        move(problem.path, target)
    except FileNotFoundError:
        return reason
    except OSError as error:
        raise StoreError(f"{problem.path}: cannot be moved to {target} ({error})") from error
    return target
