"""A store in a bucket of S3 or of storage that speaks its language, as paths.

`s3://BUCKET/PREFIX`; how it is asked is in `results.s3`.

What the store rests on is S3's own: an object appears whole or not at all, what was put is seen by
everybody at once, and of any number who put one name with `If-None-Match: *` one wins. Storage that
does not know this header is told by `results.probe`.
"""

from __future__ import annotations

import fnmatch
import functools
import io
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, TypeVar

from results import s3
from results.errors import StoreError, UnreachableError
from results.place import BUCKET

T = TypeVar("T")
PAGE = 1000
"""Objects of one listing; the most that S3 gives."""
_WRITER = "peftgrid-writer"
"""Metadata of an object that was created exclusively: tells a writer its own from another's."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@functools.total_ordering
class BucketPath:
    """An object or a prefix, with the part of `pathlib.Path` that a store needs.

    Prefixes are no things: making one does nothing, and one is there as long as something is below.
    """

    def __init__(self, bucket: str, key: str) -> None:
        self._bucket, self._key = bucket, key.strip("/")

    # Names

    def __str__(self) -> str:
        return f"{BUCKET}{self._bucket}/{self._key}".rstrip("/")

    def __repr__(self) -> str:
        return f"BucketPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketPath) and str(self) == str(other)

    def __lt__(self, other: Any) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, other: str) -> BucketPath:
        return BucketPath(self._bucket, f"{self._key}/{other}")

    @property
    def name(self) -> str:
        """The last part; the bucket's name where there is no key."""
        return self._key.rpartition("/")[2] or self._bucket

    @property
    def suffix(self) -> str:
        """The last part's ending."""
        return PurePosixPath(self._key).suffix

    @property
    def parent(self) -> BucketPath:
        """What it is in."""
        return BucketPath(self._bucket, self._key.rpartition("/")[0])

    def with_name(self, name: str) -> BucketPath:
        """Another one beside it."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> BucketPath:
        """The same with another ending."""
        return BucketPath(self._bucket, str(PurePosixPath(self._key).with_suffix(suffix)))

    def relative_to(self, other: BucketPath) -> PurePosixPath:
        """Its name below another; ValueError where it is not below."""
        return PurePosixPath(str(self)).relative_to(PurePosixPath(str(other)))

    def absolute(self) -> BucketPath:
        """Itself."""
        return self

    resolve = absolute

    # Looking

    def exists(self) -> bool:
        """Whether there is such an object, or something below."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether something is below."""
        return bool(next(self._pages(MaxKeys=1))["KeyCount"])

    def iterdir(self) -> Iterator[BucketPath]:
        """What is directly below; nothing where there is nothing."""
        start = self._prefix
        for page in self._pages(Delimiter="/"):
            keys = [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
            keys += [entry["Key"] for entry in page.get("Contents", ()) if entry["Key"] != start]
            yield from (BucketPath(self._bucket, key) for key in keys)

    def glob(self, pattern: str) -> Iterator[BucketPath]:
        """The objects below whose names match, part by part."""
        parts = pattern.split("/")
        for page in self._pages():
            for entry in page.get("Contents", ()):
                names = entry["Key"].removeprefix(self._prefix).split("/")
                if len(names) == len(parts) and all(map(fnmatch.fnmatchcase, names, parts)):
                    yield BucketPath(self._bucket, entry["Key"])

    def stat(self) -> s3.ObjectStatus:
        """FileNotFoundError where there is no such object."""
        return s3.status(
            self._ask(lambda client: client.head_object(Bucket=self._bucket, Key=self._key))
        )

    # Reading and writing

    def read_bytes(self) -> bytes:
        """The whole object."""
        return self._fetch(None)

    def reader(self) -> io.BufferedReader:
        """The object, of which only the parts that are read are fetched."""
        return io.BufferedReader(s3.Ranges(self._fetch, self.stat().st_size), 1 << 16)

    def write_bytes(self, data: bytes) -> int:
        """Put the object, in the place of what was there."""
        self._ask(lambda client: client.put_object(Bucket=self._bucket, Key=self._key, Body=data))
        return len(data)

    def create(self, data: bytes) -> bool:
        """Put the object unless there is one. False, and nothing changed, where there is."""
        writer = secrets.token_hex(8)
        while True:
            try:
                self._ask(
                    lambda client: client.put_object(
                        Bucket=self._bucket,
                        Key=self._key,
                        Body=data,
                        IfNoneMatch="*",
                        Metadata={_WRITER: writer},
                    )
                )
            except FileExistsError:
                # A put whose answer was lost is tried again by boto3 and then refused by itself.
                told = self._ask(
                    lambda client: client.head_object(Bucket=self._bucket, Key=self._key)
                )
                return bool(told["Metadata"].get(_WRITER) == writer)
            except BlockingIOError:
                continue  # two were at it in the same moment: one of them has won by now
            return True

    def move(self, target: BucketPath) -> None:
        """Copy it to `target` and delete it."""
        source = {"Bucket": self._bucket, "Key": self._key}
        self._ask(
            lambda client: client.copy_object(
                Bucket=target._bucket,
                Key=target._key,
                CopySource=source,
            )
        )
        self.unlink()

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        if not missing_ok:
            self.stat()
        self._ask(lambda client: client.delete_object(Bucket=self._bucket, Key=self._key))

    def remove_all(self) -> None:
        """Delete everything below."""
        for page in self._pages():
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
            if keys:
                body = {"Objects": keys, "Quiet": True}
                self._ask(functools.partial(_delete, bucket=self._bucket, body=body))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: prefixes need not be made."""

    # The storage

    @property
    def _prefix(self) -> str:
        return f"{self._key}/" if self._key else ""

    def _pages(self, **options: Any) -> Iterator[dict[str, Any]]:
        asked = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": PAGE, **options}
        while True:
            page = self._ask(lambda client: client.list_objects_v2(**asked))
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _fetch(self, span: tuple[int, int] | None) -> bytes:
        """The object's bytes, or those from the first up to the second place."""
        limits = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}

        def get(client: Any) -> bytes:
            told = client.get_object(Bucket=self._bucket, Key=self._key, **limits)
            data: bytes = told["Body"].read()
            return data

        return self._ask(get)

    def _ask(self, request: Callable[[Any], T]) -> T:
        return s3.ask(str(self), request)


def bucket_path(text: str) -> BucketPath:
    """The place that `s3://BUCKET[/PREFIX]` names; StoreError where it names none."""
    bucket, _, key = text.removeprefix(BUCKET).partition("/")
    parts = key.strip("/").split("/")
    wrong = not text.startswith(BUCKET) or not _NAME.fullmatch(bucket)
    if wrong or any(part in (".", "..") for part in parts) or (key.strip("/") and "" in parts):
        raise StoreError(
            f"store: {text!r} given, allowed: a folder, or s3://BUCKET or s3://BUCKET/PREFIX"
        )
    return BucketPath(bucket, key)


def reach(place: BucketPath) -> None:
    """Ask the storage for anything at all.

    Raises UnreachableError where it does not answer, has no such bucket or gives no rights.
    """
    try:
        place.is_dir()
    except OSError as error:
        raise UnreachableError(f"store: {place} cannot be reached ({error.strerror})") from error


def _delete(client: Any, bucket: str, body: dict[str, Any]) -> Any:
    return client.delete_objects(Bucket=bucket, Delete=body)
