"""What a drive shows while it runs, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from orchestrator.dispatch import Event

if TYPE_CHECKING:
    from orchestrator.live import Named, Now


class View(Protocol):
    """Where progress is shown."""

    def note(self, text: str) -> None:
        """Say one thing that happened."""

    def event(self, event: Event, spec: Named | None) -> None:
        """A dispatcher event."""

    def update(self, now: Now) -> None:
        """Where the suite stands now."""


@dataclass
class Outcome:
    """How a drive ended."""

    started: int = 0
    """Runs that began in this drive."""
    succeeded: int = 0
    failed: int = 0
    left: int = 0
    """Wanted runs that did not end."""
    signal: int | None = None
    """The signal that ended it."""
    asked: bool = False
    """Whether `peftgrid stop` ended it."""
    problem: str | None = None
    seconds_to_first_step: float | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(run_id, error) of the runs that failed in this drive."""

    @property
    def stopping(self) -> bool:
        """Whether somebody wants it to end."""
        return self.asked or self.signal is not None
