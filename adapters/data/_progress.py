"""Saying that reading goes on: hashing and decoding a large set takes minutes, as a stall does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[], None] | None] = ContextVar("listener", default=None)


def tick() -> None:
    """Tell whoever listens that something was done; what the listener raises ends the reading."""
    listener = _LISTENER.get()
    if listener is not None:
        listener()


@contextmanager
def listening(listener: Callable[[], None] | None) -> Iterator[None]:
    """Within the context `listener` hears every `tick` of this thread; None keeps who hears now."""
    if listener is None:
        yield
        return
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
