"""Images that lie as files below one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.backbones._cache import cache_dir, replace_atomically
from adapters.data._progress import tick
from adapters.data.contract import Encoded


@dataclass(frozen=True)
class FileReader:
    """Gives the bytes of a file by its path below `root`; OSError where it cannot be read."""

    root: Path

    def __call__(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def digests(self, names: Sequence[str]) -> list[str]:
        """SHA-256 (hex) of each file; a file that is as it was when this node hashed it is not read."""
        root = str(self.root.resolve())
        place = cache_dir() / "hashes" / f"{hashlib.sha256(root.encode()).hexdigest()[:32]}.json"
        known = _known(place)
        found, changed = [], False
        for name in names:
            tick()
            stat = (self.root / name).stat()
            stamp = f"{stat.st_size}.{stat.st_mtime_ns}"
            if known.get(name, ("", ""))[0] != stamp:
                known[name] = stamp, hashlib.sha256(self(name)).hexdigest()
                changed = True
            found.append(known[name][1])
        if changed:
            # Another process may write its own; what it hashed and this one did not is hashed again.
            replace_atomically(place, json.dumps(known).encode())
        return found


def _known(place: Path) -> dict[str, tuple[str, str]]:
    """What was hashed before, by name: size and time of change, digest."""
    try:
        held = json.loads(place.read_bytes())
        return {str(name): (str(stamp), str(digest)) for name, (stamp, digest) in held.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def from_files(root: Path, names: Sequence[str], labels: NDArray[np.int64]) -> Encoded:
    """The files at `names`, which are relative to `root`."""
    return Encoded(tuple(names), np.asarray(labels, np.int64), FileReader(root))


def check_count(what: str, given: int, published: int) -> None:
    """Raise ValueError unless there are as many images as the data set's authors published."""
    if given != published:
        raise ValueError(f"{what}: {given} images given, allowed: the published {published}")


def check_labels(what: str, labels: NDArray[np.int64], classes: int) -> None:
    """Raise ValueError unless all labels are 0 to `classes` - 1; names the first that is not."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(
            f"{what}: label {labels[wrong[0]]} of image {wrong[0]} given, allowed: 0 to {classes - 1}"
        )
