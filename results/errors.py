"""What this room raises.

Exception
|- StoreError       the store's folder or its files: missing, not ours, not writable, disk full
|  `- LeaseHeldError   another process holds the suite
|- QueryError       a refused, wrong or too expensive SQL statement
|- TableError       a leaderboard that cannot be made, or would average what must not be averaged
`- SelectionError   no candidate can be selected
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class StoreError(Exception):
    """A store that cannot be opened, read or written; the message says what is allowed."""


class LeaseHeldError(StoreError):
    """Another process drives the suite; `owner` is what it says about itself, `path` its lease."""

    def __init__(self, path: Path, owner: dict[str, Any]) -> None:
        self.path = path
        self.owner = owner
        super().__init__(
            f"{path}: held by process {owner.get('pid', 'unknown')} on "
            f"{owner.get('hostname', 'an unknown host')} since {owner.get('started', 'unknown')}"
        )


class QueryError(Exception):
    """A statement that was refused, is wrong, or ran into its limits."""


class TableError(Exception):
    """A table that cannot be made without misleading its reader."""


class SelectionError(Exception):
    """A choice between candidates none of which is complete."""
