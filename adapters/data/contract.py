"""The contract of a data set: what a file in `adapters/data/` offers, and what it loads.

A data set is one module. Its file name is its name in suites. It offers

* ``Config``: a frozen, keyword-only dataclass of its settings (sizes, split seed); its ``train`` and
  ``val`` are how many images these sets get, so that a run's steps are known before it loads any;
* ``load(config) -> Splits``: train, val and test; val is never empty and never part of the test set;
* ``missing() -> str | None``: None where the images are present, else the one command that gets them;
* ``GROUP`` (natural, specialised, structured), ``CLASSES``, ``SEMANTICS``;
* ``DIGEST``: what `Splits.source_digest` must be. It is declared, so that runs have identities on
  machines without the data, and compared before the first training step.

Packages that only one data set needs are imported inside its functions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """Labelled images: `pixels` (N, H, W, 3) uint8 RGB and `labels` (N,) int64."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels: {self.pixels.dtype} {self.pixels.shape} given, allowed: uint8 (N, H, W, 3)"
            )
        if self.labels.shape != self.pixels.shape[:1] or self.labels.dtype != np.int64:
            raise ValueError(
                f"labels: {self.labels.dtype} {self.labels.shape} given, "
                f"allowed: int64 ({len(self.pixels)},)"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Images:
        """The images at `index`, in its order."""
        return Images(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class Splits:
    """The three disjoint sets of one data set, and the digest of the source they were drawn from."""

    train: Images
    val: Images
    test: Images
    classes: int
    source_digest: str


class Dataset(Protocol):
    """What the registry checks of a module in `adapters/data/`."""

    GROUP: str
    CLASSES: int
    DIGEST: str
    SEMANTICS: int
    Config: type[Any]

    def missing(self) -> str | None:
        """None where the images are present, else the one command that gets them."""

    def load(self, config: Any) -> Splits:
        """Read the images and split them."""


def digest(*pools: Images) -> str:
    """SHA-256 (hex) over shape, labels and pixels of the source pools, before any split."""
    h = hashlib.sha256()
    for pool in pools:
        h.update(repr(pool.pixels.shape).encode())
        h.update(np.ascontiguousarray(pool.labels.astype("<i8")).tobytes())
        h.update(np.ascontiguousarray(pool.pixels).tobytes())
    return h.hexdigest()
