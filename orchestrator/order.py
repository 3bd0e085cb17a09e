"""In which order runs are handed out: the longest first, and those that a job has loaded together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.dispatch import Work


def longest_first(works: Iterable[Work]) -> list[Work]:
    """Runs of unknown length, then the longest; equals stay in the order that they have.

    A long run that begins late is what everything else has been done for a while before the end; one
    of unknown length may be such a run.
    """
    return sorted(works, key=lambda work: (work.seconds is not None, -(work.seconds or 0.0)))


def preferred(
    queue: Sequence[str], works: Mapping[str, Work], loaded: tuple[str, str] | None
) -> str:
    """The run of `queue` for a job that has `loaded` a (backbone, dataset).

    The first of that pair, which saves a load, unless the head of the queue is expected to take more
    than twice as long, or nobody knows how long and the other's length is known.
    """
    first = works[queue[0]]
    for run_id in queue:
        work = works[run_id]
        if (work.spec.backbone, work.spec.dataset) != loaded:
            continue
        if work.seconds is None:
            return run_id
        is_urgent = first.seconds is None or first.seconds > 2 * work.seconds
        return queue[0] if is_urgent else run_id
    return queue[0]
