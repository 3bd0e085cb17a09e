"""Commands that look after a store: fsck, compact, gc. None of them loads torch or Ray."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import (
    DEFAULT_STORE,
    ExitCode,
    JsonOption,
    StoreOption,
    app,
    echo,
    echo_json,
)
from results.place import Place

if TYPE_CHECKING:
    from results.fsck import Problem


@app.command()
def fsck(
    store: StoreOption = DEFAULT_STORE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged files to quarantine, remake tables.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file of a store; exit 7 where one is damaged. `--repair` deletes nothing."""
    from results.fsck import check
    from results.quarantine import repair as mend

    folder = store.resolve()
    report = check(folder)
    mended = mend(folder, report) if repair and (report.damaged or report.leftovers) else None
    moved = mended.moved if mended else {}
    after = mended.after if mended else report
    if as_json:
        echo_json(
            {
                "store": folder,
                "checked": report.checked,
                "damaged": [_as_dict(p, folder, moved) for p in report.damaged],
                "leftovers": [_as_dict(p, folder, moved) for p in report.leftovers],
                "generation": mended.generation if mended else None,
                "still_damaged": [_as_dict(p, folder, {}) for p in after.damaged],
            }
        )
    else:
        for problem in (*report.damaged, *report.leftovers):
            echo(f"{problem.path.relative_to(folder)}: {problem.reason}; {problem.meaning}")
            if problem.path in moved:
                echo(f"  now {moved[problem.path].relative_to(folder)}")
        if mended and mended.generation:
            echo(f"tables made anew: generation {mended.generation}")
        echo(
            f"{report.checked.total()} files checked: {len(report.damaged)} problems, "
            f"{len(report.leftovers)} leftovers"
        )
        if mended and after.damaged:
            echo(f"{len(after.damaged)} problems left; run it again to see them")
    if after.damaged:
        sys.exit(ExitCode.DAMAGED)


@app.command()
def compact(store: StoreOption = DEFAULT_STORE) -> None:
    """Write all committed attempts and epochs as two large files that are quick to read."""
    from results.store import Store

    number = Store.open(store.resolve()).compact()
    echo("nothing to compact" if number is None else f"generation {number} of the tables made")


@app.command()
def gc(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Delete files that the two newest generations of compacted tables both hold, and older ones."""
    from results.store import Store

    collected = dataclasses.asdict(Store.open(store.resolve()).gc())
    if as_json:
        echo_json(collected)
        return
    echo("deleted: " + ", ".join(f"{count} {what}" for what, count in collected.items()))


def _as_dict(problem: Problem, folder: Place, moved: dict[Place, Place]) -> dict[str, Any]:
    return {
        "path": problem.path.relative_to(folder),
        "reason": problem.reason,
        "meaning": problem.meaning,
        "moved_to": moved[problem.path].relative_to(folder) if problem.path in moved else None,
    }
