"""How a drive stands at this moment: what its terminal shows, and whoever watches it from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from orchestrator.dispatch import JobState, Work
from orchestrator.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class JobNow:
    """A job and the run that it has in hand."""

    job: str
    run_id: str
    run: str
    """In words; see `label`."""
    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float | None
    """Of the last whole epoch of training; None before there is one."""
    seconds_left: float | None


@dataclass(frozen=True, kw_only=True)
class Now:
    """A drive."""

    succeeded: int
    failed: int
    left: int
    """Runs that have not ended, those in hand included."""
    seconds_left: float | None
    """If the runs that are left go as those that ended; None before one did."""
    jobs: tuple[JobNow, ...]
    """Those that have a run in hand."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self | None:
        """From the fields as JSON has them; None where any is missing."""
        try:
            jobs = tuple(
                JobNow(**{name: job[name] for name in JobNow.__annotations__})
                for job in told["jobs"]
            )
            rest = {name: told[name] for name in cls.__annotations__ if name != "jobs"}
        except KeyError:
            return None
        return cls(**rest, jobs=jobs)


class Named(Protocol):
    """What names a run for people: its spec, or its row."""

    @property
    def variant(self) -> str: ...  # noqa: D102
    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def label(spec: Named | None) -> str:
    """A run in words: method with its parameters, data set, seed."""
    return f"{spec.variant} on {spec.dataset}, seed {spec.seed}" if spec else "-"


def of_drive(
    outcome: Outcome,
    left: Collection[str],
    began: float,
    jobs: Mapping[str, JobState],
    work: Mapping[str, Work],
) -> Now:
    """A drive that began at the moment `began` of the monotonic clock and has the runs `left`."""
    seconds, ended = None, outcome.succeeded + outcome.failed
    if ended and outcome.seconds_to_first_step is not None:
        training = time.monotonic() - began - outcome.seconds_to_first_step
        seconds = training / ended * len(left)
    return Now(
        succeeded=outcome.succeeded,
        failed=outcome.failed,
        left=len(left),
        seconds_left=seconds,
        jobs=tuple(
            JobNow(
                job=name,
                run_id=job.current,
                run=label(work[job.current].spec if job.current in work else None),
                epoch=job.epoch,
                epochs=job.epochs,
                step=job.step,
                steps=job.steps,
                images_per_second=job.images_per_second,
                seconds_left=job.seconds_left,
            )
            for name, job in jobs.items()
            if job.current is not None
        ),
    )
