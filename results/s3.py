"""What a store asks of S3: one client for the process, and its refusals as the errors of files.

Region, endpoint (`AWS_ENDPOINT_URL`) and rights come from where boto3 finds them: the environment,
its files, the machine's role; never from a suite, a plan or a row.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from results.errors import StoreError

T = TypeVar("T")
CONNECT_SECONDS, READ_SECONDS, TRIES = 5, 30, 4
_MISSING = ("404", "NoSuchKey", "NotFound")
_TAKEN = ("412", "PreconditionFailed")
_BUSY = ("409", "ConditionalRequestConflict")
_REFUSED = ("401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")


@dataclass(frozen=True)
class ObjectStatus:
    """What is known of an object without reading it."""

    st_ino: int
    """Of its ETag: another content has another."""
    st_size: int
    st_mtime_ns: int

    @property
    def st_mtime(self) -> float:
        """Seconds since the epoch by the storage's clock, whole ones."""
        return self.st_mtime_ns / 1e9


def ask(what: str, request: Callable[[Any], T]) -> T:
    """The storage's answer to a request about `what`.

    Raises OSError with the storage's words and the number that a file would have.
    """
    client = _client()
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return request(client)
    except ClientError as error:
        raise _as_os_error(error.response, what) from error
    except BotoCoreError as error:
        raise OSError(errno.EIO, str(error), what) from error


def status(told: dict[str, Any]) -> ObjectStatus:
    """Of the answer to a HEAD."""
    etag = hashlib.sha256(str(told["ETag"]).encode()).digest()
    return ObjectStatus(
        st_ino=int.from_bytes(etag[:8], "big"),
        st_size=int(told["ContentLength"]),
        st_mtime_ns=int(told["LastModified"].timestamp() * 1e9),
    )


def _as_os_error(told: dict[str, Any], what: str) -> OSError:
    code = str(told.get("Error", {}).get("Code"))
    said = f"{code}: {told.get('Error', {}).get('Message') or 'no more is said'}"
    numbers = (
        (_MISSING, errno.ENOENT),
        (_TAKEN, errno.EEXIST),
        (_BUSY, errno.EAGAIN),
        (_REFUSED, errno.EACCES),
    )
    known = next((number for codes, number in numbers if code in codes), errno.EIO)
    return OSError(known, said, what)


class Ranges(io.RawIOBase):
    """An object as a file that can be read from any place."""

    def __init__(self, fetch: Callable[[tuple[int, int]], bytes], size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The place that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Choose the place that is read next."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fetch what comes next."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._fetch((self._at, end))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


_making = threading.Lock()


def _client() -> Any:
    """boto3's client, one for the process; making it takes a third of a second."""
    with _making:  # making one is not safe in threads, using it is
        return _made_client()


@functools.cache
def _made_client() -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise StoreError(
            "store: an s3:// address given, for which boto3 is needed: pip install 'peftgrid[s3]'"
        ) from error
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=32,
    )
    # A session of its own: the shared one keeps rights that it once had.
    return boto3.session.Session().client("s3", config=config)
