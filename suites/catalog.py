"""The suites that come with the package, by name: the `*.yaml` files beside this one."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from adapters.registry import unknown


def names() -> tuple[str, ...]:
    """The names of all shipped suites, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def path(name: str) -> Path:
    """The file of the shipped suite called `name`; a ValueError that lists all if there is none."""
    if name not in names():
        raise ValueError(unknown("suite", name, names()))
    return _folder() / f"{name}.yaml"


def _folder() -> Path:
    return Path(str(files("suites")))
