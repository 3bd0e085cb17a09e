"""Durations and amounts of memory as people write them, with errors that name the setting.

duration: 90s, 30m, 2h, 1h30m, 1.5h; a plain number is seconds
memory:   4GiB (2**30 each), 4GB (10**9 each), also K, M and T; a plain whole number is bytes
"""

from __future__ import annotations

import re

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_DURATION = re.compile(rf"(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?")
_MEMORY = re.compile(rf"({_NUMBER}) ?([KMGT])(i?)B")
_UNITS = (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))
_MAX_SECONDS = 366 * 86_400
"""A year: what waits for so long waits by mistake, and timers overflow not far above."""
_MAX_BYTES = 2**53


def seconds(name: str, given: float | str) -> float:
    """A duration in seconds; ValueError names the setting `name`."""
    value: float | None = None
    if not isinstance(given, str):
        value = float(given)
    elif given and (match := _DURATION.fullmatch(given)):
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        value = 3600 * hours + 60 * minutes + rest
    if value is None or not 0 <= value <= _MAX_SECONDS:
        raise ValueError(
            f"{name}: {given!r} given, allowed: a duration such as 90s, 30m or 1h30m, or seconds, "
            "at most a year"
        )
    return value


def byte_count(name: str, given: int | str) -> int:
    """An amount of memory in bytes; ValueError names the setting `name`."""
    value: int | None = None
    if not isinstance(given, str):
        value = given
    elif match := _MEMORY.fullmatch(given):
        number, prefix, binary = match.groups()
        value = round(float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix))
    if value is None or not 0 <= value <= _MAX_BYTES:
        raise ValueError(
            f"{name}: {given!r} given, allowed: bytes, or an amount such as 4GiB or 4GB"
        )
    return value


def shown_bytes(count: int) -> str:
    """Bytes in words: `4GiB`, `1.5GiB`, `512MiB`."""
    prefix, unit = next(((p, u) for p, u in _UNITS if count >= u), ("", 1))
    return f"{count / unit:.4g}{prefix}B"
