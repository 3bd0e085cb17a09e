"""How much of a node's disk the decoded images may take: the least recently used go first.

    <key>.u8      decoded images
    <key>.tmp     the same while they are made, as long as they will be
    <key>.lock    held by who makes them

What a process has mapped stays readable for it after its file was removed, so nothing in use breaks;
its bytes are free once nobody maps it.
"""

from __future__ import annotations

import fcntl
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


def reserve(path: Path, needed: int) -> None:
    """Make `path`, of `needed` bytes, in its folder, where there is room or some can be made.

    Raises ValueError where `needed` alone is more than is allowed. One process at a time looks for room.
    """
    with (path.parent / "room.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.unlink(missing_ok=True)  # of a maker that was killed
        make_room(path.parent, needed)
        with path.open("wb") as file:
            file.truncate(needed)


def state(folder: Path) -> tuple[int, int]:
    """Bytes that the files of `folder` take, and that they may take; ValueError as `limit`."""
    folder.mkdir(parents=True, exist_ok=True)
    return sum(_sizes(folder).values()), limit(folder)


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
    for path in folder.glob("*.tmp"):
        if not _is_locked(path.with_suffix(".lock")):
            path.unlink(missing_ok=True)  # its maker is gone
    sizes, removed = _sizes(folder), []
    taken = sum(sizes.values())
    for path in sorted((p for p in sizes if p.suffix == ".u8"), key=_last_used):
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
    """Every decoded file with its bytes, also while it is made; one that vanishes is left out."""
    found = {}
    for path in (*folder.glob("*.u8"), *folder.glob("*.tmp")):
        try:
            found[path] = path.stat().st_size
        except FileNotFoundError:
            continue
    return found


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
