"""Where a store lies: a folder, or the part of a bucket below a prefix.

Everything that a store does with its files goes through this, of which `pathlib.Path` is one and
`results.bucket.BucketPath` the other. What they cannot do alike, create exclusively, replace and
make folders, is in `results.files`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

BUCKET = "s3://"


class Status(Protocol):
    """What is known of a file without reading it; equal as long as its content is the same."""

    @property
    def st_ino(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime(self) -> float: ...
    @property
    def st_mtime_ns(self) -> int: ...


@runtime_checkable
class Place(Protocol):
    """A file or folder of a store; `pathlib.Path` says what each of these does.

    Every error is an OSError, FileNotFoundError where nothing is there.
    """

    @property
    def name(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __truediv__(self, other: str, /) -> Self: ...
    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...
    def with_name(self, name: str) -> Self: ...
    def with_suffix(self, suffix: str) -> Self: ...
    def relative_to(self, other: Any, /) -> Any: ...
    def exists(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def is_file(self) -> bool: ...
    def iterdir(self) -> Iterator[Self]: ...
    def glob(self, pattern: str) -> Iterator[Self]: ...
    def read_bytes(self) -> bytes: ...
    def write_bytes(self, data: bytes, /) -> int: ...
    def unlink(self, missing_ok: bool = False) -> None: ...
    def stat(self) -> Status: ...
    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None: ...
    def absolute(self) -> Self: ...
    def resolve(self) -> Self: ...


def place_of(given: str | os.PathLike[str] | Place) -> Place:
    """The place that a person named: `s3://BUCKET[/PREFIX]`, or a path.

    Raises StoreError for an address of a bucket that is none.
    """
    if isinstance(given, Place):
        return given
    text = os.fspath(given)
    if "://" not in text:
        return Path(text)
    from results.bucket import bucket_path

    return bucket_path(text)


def open_binary(place: Place) -> io.BufferedReader:
    """The file, to be read; of a bucket only what is asked for is fetched."""
    if isinstance(place, Path):
        return place.open("rb")
    from results.bucket import BucketPath

    assert isinstance(place, BucketPath)
    return place.reader()
