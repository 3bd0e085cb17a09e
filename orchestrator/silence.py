"""Processes that say nothing for longer than one that runs can, as it would have ended itself: killed."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator import nodes
from orchestrator.dispatch import News

SILENT_SECONDS = 2.0
"""Beyond `stall_after`, which a process that can run at all ends itself by."""


class Silence:
    """What one driver killed. `note` tells people."""

    def __init__(self, stall_after: float, note: Callable[[str], None]) -> None:
        self._limit, self._note = stall_after + SILENT_SECONDS, note
        self._killed: dict[tuple[str, int], str] = {}

    def end(self, news: News) -> None:
        """Kill what is silent for too long, each process once."""
        for name, seconds in news.silent.items():
            found = news.jobs[name].process
            if seconds <= self._limit or found is None or self.why(found.node, found.pid):
                continue
            text = f"process {found.pid} of {name}: silent for {seconds:.0f} s, killed"
            self._killed[found.node, found.pid] = text
            self._note(text)
            nodes.kill(found)

    def why(self, node: str, pid: int) -> str | None:
        """Why that process was killed, if it was."""
        return self._killed.get((node, pid))
