"""Who wants a drive to end: signals, and requests that `peftgrid stop` left in the store."""

from __future__ import annotations

import time
from collections.abc import Set

from orchestrator.outcome import Outcome, View
from results.lease import STOP, STOP_NOW, STOP_RUN

DRAIN_SECONDS = 30.0
"""How long the jobs may take to stop at their next step."""


class Ending:
    """Whether, and how soon, one drive is to end; `outcome` hears of it at once."""

    def __init__(self, outcome: Outcome, view: View) -> None:
        self._outcome, self._view = outcome, view
        self._deadline = 0.0
        self.unwanted: frozenset[str] = frozenset()
        """Runs that are to be stopped while the others go on."""

    def interrupt(self, number: int) -> None:
        """First signal: stop at the next step. Second: stop now."""
        if self._outcome.signal is None:
            self._drain("a second signal stops at once")
            self._outcome.signal = number
        else:
            self._deadline = time.monotonic()

    def hear(self, asked: Set[str]) -> None:
        """Take in what `peftgrid stop` asked for so far; see `results.lease.Observer.ask`."""
        if not asked:
            return
        orders = {STOP, STOP_NOW}
        self.unwanted = frozenset(each.removeprefix(STOP_RUN) for each in asked - orders)
        if asked & orders and not self._outcome.stopping:
            self._drain("`peftgrid stop --now` stops at once")
            self._outcome.asked = True
        if STOP_NOW in asked:
            self._deadline = min(self._deadline, time.monotonic())

    @property
    def is_due(self) -> bool:
        """Whether jobs that did not stop yet are not waited for any longer."""
        return time.monotonic() > self._deadline

    def _drain(self, how_to_hurry: str) -> None:
        self._deadline = time.monotonic() + DRAIN_SECONDS
        self._view.note(f"stopping at the next step; {how_to_hurry}")
