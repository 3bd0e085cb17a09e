"""Which source a run came from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def of_source() -> dict[str, Any]:
    """`git_commit` and `git_dirty` of the checkout this program runs from; None where it is none."""
    home = Path(__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    commit = _git(home, "rev-parse", "HEAD")
    status = _git(home, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit or None, "git_dirty": None if status is None else bool(status)}


def _git(home: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(home), *args],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
