"""The contract of a data set: what a file in `adapters/data/` offers, and what it loads.

A data set is one module. Its file name is its name in suites. It offers

* ``Config``: a frozen, keyword-only dataclass of its settings (sizes, split seed); its ``train`` and
  ``val`` are how many images these sets get, so that a run's steps are known before it loads any;
* ``load(config) -> Splits``: train, val and test; val is never empty and never part of the test set;
* ``missing() -> str | None``: None where the images are present, else the one command that gets them;
* ``GROUP`` (natural, specialised, structured), ``CLASSES``, ``SEMANTICS``;
* ``DIGEST``: what `Splits.source_digest` must be. It is declared, so that runs have identities on
  machines without the data, and compared before the first training step.

A family of data sets is one module too. Its members are called `family/member`; it offers

* ``MEMBERS``: the names of those that are known by name; a family of folders takes any other name too;
* ``member(name) -> Dataset``: one of them, with all of the above; ValueError for a name that has none.

A member may leave to its ``Config`` what only its user knows: ``classes`` where ``CLASSES`` is None, and
``digest``, which then is the declared one where it is given.

Packages that only one data set needs are imported inside its functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

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

    def content(self) -> bytes:
        """What the digest is taken over: shape, labels and pixels, in order."""
        return b"".join(
            (
                repr(self.pixels.shape).encode(),
                np.ascontiguousarray(self.labels.astype("<i8")).tobytes(),
                np.ascontiguousarray(self.pixels).tobytes(),
            )
        )


@dataclass(frozen=True)
class Encoded:
    """Labelled images of any size, as files hold them: `names` and `labels` (N,) int64, in one order.

    `names` say in errors and in the digest which image is meant, as in `pets/cat/3.jpg`. `read` gives
    the bytes of the image of a name: JPEG, PNG or what else Pillow reads.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    read: Callable[[str], bytes] = field(compare=False)

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.names),) or self.labels.dtype != np.int64:
            raise ValueError(
                f"labels: {self.labels.dtype} {self.labels.shape} given, "
                f"allowed: int64 ({len(self.names)},)"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Encoded:
        """The images at `index`, in its order."""
        return Encoded(tuple(self.names[i] for i in index), self.labels[index], self.read)

    def content(self) -> bytes:
        """What the digest is taken over: each name with its label and the digest of its bytes, sorted."""
        entries = zip(self.names, self.labels.tolist(), self._digests(), strict=True)
        return "".join(f"{name}\0{label}\0{sha}\n" for name, label, sha in sorted(entries)).encode()

    def _digests(self) -> list[str]:
        """SHA-256 (hex) of each image's bytes; a reader of files knows those that it took before."""
        ask = getattr(self.read, "digests", None)
        if ask is not None:
            return list(ask(self.names))
        return [hashlib.sha256(self.read(name)).hexdigest() for name in self.names]


Part = Images | Encoded
"""One set of a data set."""


@dataclass(frozen=True)
class Splits:
    """The three disjoint sets of one data set, and the digest of the source they were drawn from."""

    train: Part
    val: Part
    test: Part
    classes: int
    source_digest: str


@runtime_checkable
class Dataset(Protocol):
    """What the registry checks of a module in `adapters/data/`, and of a member of a family."""

    GROUP: str
    CLASSES: int | None
    """None where `Config` has a field `classes`."""
    DIGEST: str | None
    """None where nobody has declared it: identity then rests on the name and `SEMANTICS`."""
    SEMANTICS: int
    Config: type[Any]

    def missing(self) -> str | None:
        """None where the images are present, else the one command that gets them."""

    def load(self, config: Any) -> Splits:
        """Read the images and split them."""


@dataclass(frozen=True)
class Member:
    """A data set of a family; its fields are a data set's."""

    GROUP: str
    CLASSES: int | None
    DIGEST: str | None
    SEMANTICS: int
    Config: type[Any]
    missing: Callable[[], str | None]
    load: Callable[[Any], Splits]


def digest(*pools: Part) -> str:
    """SHA-256 (hex) over the contents of the source pools, before any split."""
    h = hashlib.sha256()
    for pool in pools:
        h.update(pool.content())
    return h.hexdigest()
