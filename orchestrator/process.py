"""Ending a process, and never a later one that has its number."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from results.process import start_time


def kill(pid: int, started: str) -> bool:
    """SIGKILL the process `pid` that started at `started`; False where it is gone.

    Run on the process's own machine. SIGKILL, since a stopped process takes no other signal.
    """
    if not started or start_time(pid) != started:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def age() -> float:
    """Seconds since this process was started, imports included; 0 where the system cannot tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK"))
