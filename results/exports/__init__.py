"""A suite's runs for other tools, after the fact. A new file is a new target.

A target is one module, `to_<name>.py`, and its docstring says what a reader sees where. It offers

* `NEEDS`: what it imports beyond this package's own dependencies, import name -> name to install;
* `export(source, out, progress) -> int`: writes `source` into the empty folder `out` and returns
  how many runs it wrote; it goes through `progress(source.runs)`, which may show how far it is;
* `how_to_open(out) -> str`: one line that says what opens the result.

What a target needs is imported inside `export`. Files that start with an underscore are helpers.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from results.errors import ExportError as ExportError

if TYPE_CHECKING:
    from results.exports._runs import Run, Source
    from results.store import Store

MANIFEST = "export.json"
"""Written last: a folder without it is an export that did not end."""

Progress = Callable[[Sequence["Run"]], Iterable["Run"]]


class Target(Protocol):
    """What a file in `results/exports/` offers."""

    NEEDS: Mapping[str, str]

    def export(self, source: Source, out: Path, progress: Progress, /) -> int:
        """Write the runs into the empty folder `out`; how many were written."""

    def how_to_open(self, out: Path, /) -> str:
        """What opens the result."""


@cache
def names() -> tuple[str, ...]:
    """The names of all targets, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.removeprefix("to_") for name in found if name.startswith("to_")))


def load(name: str) -> Target:
    """The module of the target called `name`.

    Raises ExportError where there is none, or a package that it needs is not installed.
    """
    if name not in names():
        raise ExportError(f"--to: {name!r} given, allowed: {', '.join(names())}")
    target = cast(Target, importlib.import_module(f"{__name__}.to_{name}"))
    missing = [dist for module, dist in target.NEEDS.items() if not _is_installed(module)]
    if missing:
        quoted = " ".join(f'"{dist}"' for dist in missing)
        raise ExportError(
            f"--to: {name} given, which needs packages that are not installed; "
            f"allowed: after `pip install {quoted}`, or all of them with the extra peftgrid[export]"
        )
    return target


def write(
    store: Store,
    suite: str,
    to: str,
    out: Path,
    progress: Progress = lambda runs: runs,
    provenance: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Export the attempted runs of a suite's latest plan; what stands in `MANIFEST`.

    `provenance` goes into it: where the runs come from, by name. `out` is a new or an empty folder.
    Raises ExportError for anything else, an unknown suite or target, and a suite of which nothing was
    attempted. Where it fails or is interrupted, what it wrote is removed.
    """
    from results.exports._runs import read

    target, out = load(to), _free(store, out)
    source = read(store, suite)
    try:
        out.mkdir(parents=True, exist_ok=True)
        number = target.export(source, out, progress)
        manifest = {
            "suite": suite,
            "suite_digest": source.suite_digest,
            "to": to,
            "runs": number,
            "statuses": Counter(run.row["status"] for run in source.runs),
            "planned": source.planned,
            **(provenance or {}),
        }
        (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        _empty(out)
        raise ExportError(
            f"--out: {out} given, which cannot be written ({error.strerror or error})"
        ) from error
    except BaseException:
        _empty(out)
        raise
    return manifest


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _free(store: Store, out: Path) -> Path:
    out = out.resolve()
    home = store.path.resolve()
    if isinstance(home, Path) and out.is_relative_to(home):
        raise ExportError(
            f"--out: {out} given, which is in the store; allowed: a folder outside of it"
        )
    try:
        held = next(out.iterdir(), None) if out.exists() else None
    except OSError as error:
        raise ExportError(
            f"--out: {out} given, which is no folder ({error.strerror}); "
            "allowed: a new or an empty folder"
        ) from error
    if held is not None:
        raise ExportError(
            f"--out: {out} given, which is not empty ({held.name}); "
            "allowed: a new or an empty folder"
        )
    return out


def _empty(folder: Path) -> None:
    """Remove what an export wrote that did not end."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
