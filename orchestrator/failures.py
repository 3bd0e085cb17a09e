"""From an exception to the failure kind of a row."""

from __future__ import annotations

import errno
import traceback

STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def classify(error: BaseException) -> str:
    """One of data, non_finite, out_of_memory, storage, user_error, unknown.

    Types are compared by name where importing them would load torch into the driver.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    if "NonFiniteError" in names:
        return "non_finite"
    if "DataError" in names:
        return "data"
    if names & {"OutOfMemoryError", "MemoryError"}:
        return "out_of_memory"
    if "StoreError" in names or (isinstance(error, OSError) and error.errno in STORAGE_ERRNOS):
        return "storage"
    if isinstance(error, ValueError | TypeError):
        return "user_error"
    return "unknown"


def describe(error: BaseException) -> tuple[str, str]:
    """The error in one line, and its traceback as evidence."""
    return f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
