"""A process as the system knows it, so that a later one with the same number is not mistaken for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def start_time(pid: int) -> str:
    """When `pid` started, in the system's ticks; empty where there is no such process or no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def kill(pid: int, started: str) -> bool:
    """SIGKILL the process `pid` that started at `started`; False where it is gone.

    Run on the process's own machine. SIGKILL, since a stopped process takes no other signal.
    """
    if not started or start_time(pid) != started:
        return False
    os.kill(pid, signal.SIGKILL)
    return True
