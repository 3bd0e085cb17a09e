"""Images that lie as files below one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.data.contract import Encoded


@dataclass(frozen=True)
class FileReader:
    """Gives the bytes of a file by its path below `root`; OSError where it cannot be read."""

    root: Path

    def __call__(self, name: str) -> bytes:
        return (self.root / name).read_bytes()


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
