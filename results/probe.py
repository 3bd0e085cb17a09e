"""Whether a folder or bucket gives what a store rests on, found by trying it.

The files that it takes are removed again.

A store needs that of many who create one name one wins, that a file appears whole or not at all, that a
replaced file is always there and never half, and that what was written is seen at once. File systems
without hard links, some network and synchronised folders, and storage that speaks S3 without knowing
conditional puts, do not keep all of this.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from results.bucket import BucketPath, reach
from results.errors import StoreError
from results.files import create_exclusive, listed, make_folder, remove_all, replace
from results.folder import FOLDERS
from results.place import Place, place_of

RACES, RACERS = 20, 8
REPLACEMENTS, IN_A_BUCKET = 300, 30


@dataclass(frozen=True)
class Finding:
    """One thing that a store needs."""

    what: str
    problem: str | None
    """What was seen instead; None where it holds."""


def probe(folder: str | os.PathLike[str] | Place) -> list[Finding]:
    """Try everything, in a new folder inside `folder`, or inside the nearest folder above that exists.

    One machine is asked: that others see the same at once is for the file system to promise. Raises
    UnreachableError where a bucket does not answer.
    """
    place = place_of(folder).absolute()
    if isinstance(place, BucketPath):
        reach(place)
    while isinstance(place, Path) and not place.is_dir():
        place = place.parent
    own = place / f".peftgrid-probe-{secrets.token_hex(6)}"
    try:
        own.mkdir()
    except OSError as error:
        return [Finding("takes files", f"{place}: {error.strerror or error}")]
    try:
        return [Finding(what, _tried(check, own)) for what, check in _CHECKS.items()]
    finally:
        remove_all(own)


def _tried(check: Callable[[Place], str | None], own: Place) -> str | None:
    try:
        return check(own)
    except (OSError, StoreError) as error:
        return str(error)


def _takes_files(own: Place) -> str | None:
    for name in FOLDERS:
        make_folder(own / name)
    create_exclusive(own / FOLDERS[0] / "a", b"a")
    return None


def _one_wins(own: Place) -> str | None:
    for race in range(RACES):
        path, start = own / f"race-{race}", threading.Barrier(RACERS)

        def run(mine: int, path: Place = path, start: threading.Barrier = start) -> bool:
            start.wait()
            return create_exclusive(path, b"%d" % mine)

        with ThreadPoolExecutor(RACERS) as pool:
            won = [n for n, first in enumerate(pool.map(run, range(RACERS))) if first]
        if len(won) != 1 or path.read_bytes() != b"%d" % won[0]:
            return f"of {RACERS} who created one file {len(won)} were told that they had"
    return None


def _whole(own: Place) -> str | None:
    """A file that is replaced again and again is read meanwhile."""
    path, texts = own / "beat", (b"a" * 4096, b"b" * 4096)
    path.write_bytes(texts[0])
    ended = threading.Event()

    def replace_often() -> None:
        try:
            for count in range(REPLACEMENTS if isinstance(own, Path) else IN_A_BUCKET):
                replace(path, texts[count % 2])
        finally:
            ended.set()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(replace_often)
        while not ended.is_set():
            if (seen := path.read_bytes()) not in texts:
                return f"a file that was replaced was read with {len(seen)} of 4096 bytes"
        writer.result()
    return None


def _seen(own: Place) -> str | None:
    for count in range(50):
        path = own / f"new-{count}"
        create_exclusive(path, b"x" * count)
        if not path.exists() or path.name not in listed(own):
            return "a file that was written was not seen at once"
        if path.read_bytes() != b"x" * count:
            return "a file that was written was read with another content"
        path.unlink()
        if path.exists():
            return "a file that was removed was still seen"
    return None


_CHECKS: dict[str, Callable[[Place], str | None]] = {
    "takes files": _takes_files,
    "of many who create a file, one wins": _one_wins,
    "a replaced file is whole at any moment": _whole,
    "what is written is seen at once": _seen,
}
