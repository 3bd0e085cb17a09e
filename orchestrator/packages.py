"""Checks that the four packages that Python finds are ours.

Their names are generic: PyPI has other packages called `adapters`, `orchestrator` and `results`, and a
user's folder may hold a `results.py`. Driver and workers compare what they found.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

ROOMS = ("adapters", "orchestrator", "results", "suites")


class PackageError(RuntimeError):
    """A package of this project is not the one that Python finds."""


def version() -> str:
    """The installed version of peftgrid."""
    return importlib.metadata.version("peftgrid")


def found() -> dict[str, str]:
    """Room -> the file that `import` would run for it, found without importing it."""
    places = {}
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        places[room] = str(spec.origin) if spec and spec.origin else "not found"
    return places


def check() -> None:
    """Raise PackageError unless all four rooms lie side by side in the folder this file is in."""
    home = Path(__file__).resolve().parent.parent
    for room, place in found().items():
        expected = home / room / "__init__.py"
        if Path(place).resolve() != expected:
            raise PackageError(
                f"Python finds {place} under the name {room!r}, but peftgrid's own is {expected}. "
                "Rename or remove the other one, or install peftgrid into an environment of its own."
            )


def same_as(driver: dict[str, str]) -> None:
    """Raise PackageError, naming both, where this process finds other files than the driver did."""
    here = found()
    for room, place in driver.items():
        if here[room] != place:
            raise PackageError(
                f"the worker finds {here[room]} under the name {room!r}, the driver {place}"
            )
