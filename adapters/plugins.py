"""Methods, data sets and backbones of a lab's own: files in a folder that `PEFTGRID_PLUGINS` names.

    FOLDER/methods/NAME.py, FOLDER/data/NAME.py, FOLDER/backbones/NAME.py

Each is what a file of that kind is in this package. None may have the name of one of ours.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

VARIABLE = "PEFTGRID_PLUGINS"
KINDS = ("methods", "data", "backbones")


class PluginError(ValueError):
    """The folder of plugins is not as it must be."""


def folder() -> Path | None:
    """The folder that is in use; None where there is none."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None


def files(plugins: Path) -> list[Path]:
    """All of a folder, sorted. Raises PluginError where it has none, or one with the name of ours."""
    found = sorted(file for kind in KINDS for file in (plugins / kind).glob("*.py"))
    if not found:
        allowed = ", ".join(f"{kind}/NAME.py" for kind in KINDS)
        raise PluginError(f"plugins: {plugins} given, which has no file; allowed: {allowed}")
    ours = Path(__file__).parent
    for file in found:
        if (ours / file.parent.name / file.name).exists():
            raise PluginError(f"plugins: {file} has the name of one of peftgrid's own")
    return found


def digest(plugins: Path) -> str:
    """SHA-256 (hex) of the names and contents of all its files."""
    total = hashlib.sha256()
    for file in files(plugins):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.parent.name}/{file.name} {content}\n".encode())
    return total.hexdigest()
