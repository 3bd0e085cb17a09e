"""Reading lists of images: text files whose lines are a path and a label."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np

from adapters.data._files import from_files
from adapters.data.contract import Encoded


def read_list(file: Path, root: Path, classes: int) -> Encoded:
    """The images that the lines of `file` name, in its order; empty lines are skipped.

    A line is `relative/path label`, the label after the last space, so that paths may hold spaces.
    Paths are relative to `root` and are the names of the images.

    Raises:
        ValueError: A line has no label, one that is not 0 to `classes` - 1, or a path that leaves
            `root` or that an earlier line has; says which line. Or there is no line at all.
        OSError: The list cannot be read.

    """
    lines: dict[str, int] = {}
    text = file.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.strip()
        place = f"{file}:{number}"
        if not name or not re.fullmatch(r"-?\d+", label):
            raise ValueError(f"{place}: {line.strip()!r} given, allowed: a path, a space, a label")
        if not 0 <= int(label) < classes:
            raise ValueError(f"{place}: label {label} given, allowed: 0 to {classes - 1}")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{place}: {name!r} given, allowed: a path inside {root}")
        if name in lines:
            raise ValueError(f"{place}: {name!r} given, which an earlier line has")
        lines[name] = int(label)
    if not lines:
        raise ValueError(f"{file}: no line given, allowed: at least one")
    return from_files(root, list(lines), np.fromiter(lines.values(), np.int64))


def check_disjoint(**named: Encoded) -> None:
    """Raise ValueError if two of the sets have an image in common; names both sets and the image."""
    for (a, first), (b, second) in combinations(named.items(), 2):
        if both := set(first.names) & set(second.names):
            raise ValueError(
                f"{a} and {b}: {len(both)} images are in both, among them {min(both)!r}; allowed: none"
            )
