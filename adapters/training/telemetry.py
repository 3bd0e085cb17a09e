"""What a run costs: seconds, images per second, peak memory."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory in bytes from construction on.

    On CUDA the allocator's maximum. On a CPU the process's high-water mark, reset at the start, less
    the resident size at the start: what this run added. None where the system cannot tell.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            _CLEAR_REFS.write_text("5")
        except OSError:
            return
        self._start = _status_bytes("VmRSS")

    def read(self) -> int | None:
        """The peak so far."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        if self._start is None:
            return None
        return max(0, _status_bytes("VmHWM") - self._start)


def _status_bytes(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found, f"{_STATUS} has no {key}"
    return int(found.group(1)) * 1024


class Stopwatch:
    """Wall seconds of a device's work: waits for the device before it reads the clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin = self._now()

    def lap(self) -> float:
        """Seconds since construction or the last lap."""
        now = self._now()
        seconds, self._begin = now - self._begin, now
        return seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def typical_epoch(seconds: list[float]) -> float | None:
    """The median of epochs that were trained whole in a warm process; None if there was none."""
    return statistics.median(seconds) if seconds else None
