"""Checks of the settings that several methods have: `rank`, `dropout`, positive factors."""

from __future__ import annotations

import math

Rank = int | tuple[int, ...]


def check_rank(rank: Rank, modes: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless `rank` is an int >= 1 or, for named `modes`, one such int each."""
    entries = ranks(rank, len(modes)) if modes else (rank,)
    # bool is an int in Python, and `rank: true` is a slip.
    if len(entries) != max(1, len(modes)) or any(type(n) is not int or n < 1 for n in entries):
        each = f", or a list of {len(modes)} ({', '.join(modes)})" if modes else ""
        raise ValueError(f"rank: {rank!r} given, allowed: an integer of at least 1{each}")


def canonical_rank(rank: Rank, modes: tuple[str, ...]) -> Rank:
    """One int where all modes have the same rank, so that 8 and [8, 8, 8] are one run.

    Raises ValueError as `check_rank`.
    """
    check_rank(rank, modes)
    entries = ranks(rank, len(modes))
    return entries[0] if len(set(entries)) == 1 else entries


def ranks(rank: Rank, count: int) -> tuple[int, ...]:
    """Return one rank for each of `count` modes: an int stands for all of them."""
    return rank if isinstance(rank, tuple) else (rank,) * count


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless 0 <= `dropout` < 1."""
    if isinstance(dropout, bool) or not 0 <= dropout < 1:
        raise ValueError(f"dropout: {dropout!r} given, allowed: 0 <= x < 1")


def check_positive(**values: float) -> None:
    """Raise ValueError naming the first keyword whose value is not a finite number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not 0 < value < math.inf:
            raise ValueError(f"{name}: {value!r} given, allowed: a finite number above 0")
