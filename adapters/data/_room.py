"""How much of a node's disk the decoded images may take: the least recently used go first.

What a process has mapped stays readable for it after its file was removed, so nothing in use breaks.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

VARIABLE = "PEFTGRID_CACHE_GB"
SHARE = 0.9
"""Of the disk, the rest of which is free, where the variable says nothing."""


def limit(folder: Path) -> int:
    """Bytes that the files of `folder` may take; ValueError where the variable is no such number."""
    given = os.environ.get(VARIABLE)
    if not given:
        return int(SHARE * (shutil.disk_usage(folder).free + sum(_sizes(folder).values())))
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise ValueError(f"{VARIABLE}: {given!r} given, allowed: a number of gigabytes, as 50")
    return int(gigabytes * 1e9)


def make_room(folder: Path, needed: int) -> list[Path]:
    """Remove files of `folder` until `needed` more bytes fit; those that were removed.

    Raises ValueError where `needed` alone is more than is allowed.
    """
    allowed = limit(folder)
    if needed > allowed:
        raise ValueError(
            f"decoded images: {needed / 1e9:.1f} GB needed in {folder}, allowed: "
            f"{allowed / 1e9:.1f} GB ({VARIABLE}, or {SHARE:.0%} of the free disk)"
        )
    sizes, removed = _sizes(folder), []
    taken = sum(sizes.values())
    for path in sorted(sizes, key=_last_used):
        if taken + needed <= allowed:
            break
        path.unlink(missing_ok=True)
        removed.append(path)
        taken -= sizes[path]
    return removed


def used(path: Path) -> None:
    """Note that a file is used now."""
    os.utime(path)


def _sizes(folder: Path) -> dict[Path, int]:
    """Every decoded file with its bytes; one that vanishes meanwhile is left out."""
    found = {}
    for path in folder.glob("*.u8"):
        try:
            found[path] = path.stat().st_size
        except FileNotFoundError:
            continue
    return found


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
