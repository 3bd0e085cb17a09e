"""Telling a process from a later one that has its number."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> str | None:
    """When a process started, in the system's ticks; None where there is none of that number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
