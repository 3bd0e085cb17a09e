"""Ending a process, and never a later one that has its number."""

from __future__ import annotations

import os
import signal

from results.process import start_time


def kill(pid: int, started: str) -> bool:
    """SIGKILL the process `pid` that started at `started`; False where it is gone.

    Run on the process's own machine. SIGKILL, since a stopped process takes no other signal.
    """
    if not started or start_time(pid) != started:
        return False
    os.kill(pid, signal.SIGKILL)
    return True
