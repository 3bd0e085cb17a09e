"""Waiting for storage that takes nothing: a full disk must not cost what was trained."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TypeVar

from results.errors import StoreError

T = TypeVar("T")
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between tries; the last one is repeated."""


def patiently(
    write: Callable[[], T],
    tell: Callable[[str], object],
    *,
    give_up: Callable[[], bool] = lambda: False,
) -> T:
    """What `write` returns once the storage takes it; `tell` hears why it is waited.

    Raises the last StoreError once `give_up` says so.
    """
    pauses = itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
    while True:
        try:
            return write()
        except StoreError as error:
            if give_up():
                raise
            pause = next(pauses)
            tell(f"{error}; tried again in {pause:g} s")
            time.sleep(pause)
