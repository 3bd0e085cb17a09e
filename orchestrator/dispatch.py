"""The dispatcher hands runs to jobs and keeps what the driver shows. Ray makes an actor of it.

It is a cache: plan and store hold the truth, jobs commit without it. Every call is idempotent or keeps
only the newest state, so a call that Ray repeats does no harm.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from suites.spec import RunSpec

MAX_LAUNCHES = 3
"""Starts of one job without a finished run in between, after which its run is not tried again."""

Answer = Literal["wait", "end"]
EventKind = Literal["launched", "started", "training", "finished", "lost", "broken"]


@dataclass(frozen=True)
class Lost:
    """A run whose job died before it committed."""

    run_id: str
    job: str
    kind: Literal["launch", "worker_lost"]
    times: int


@dataclass
class JobState:
    """What the dispatcher knows of one job."""

    launches: int = 0
    """Since the last finished run."""
    finished: int = 0
    current: str | None = None
    sequence: int = -1
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    own: deque[str] | None = None
    """The runs of a job that was started for them; None for one that takes from the shared queue."""
    promised: int = 0
    """How many runs a job with a queue of its own was started for."""

    @property
    def complete(self) -> bool:
        """Whether a job with a queue of its own has none of its runs left, not even a lost one."""
        return self.own is not None and self.finished == self.promised


@dataclass(frozen=True)
class Event:
    """Something that happened, for the driver to show; `at` is seconds since the epoch."""

    kind: EventKind
    job: str
    run_id: str | None
    at: float
    status: str = ""
    detail: dict[str, float | str | None] = field(default_factory=dict)


class Dispatcher:
    """Queue of runs, state of jobs, log of events."""

    def __init__(self) -> None:
        self._specs: dict[str, RunSpec] = {}
        self._queue: deque[str] = deque()
        self._jobs: dict[str, JobState] = {}
        self._lost: list[Lost] = []
        self._lost_times: dict[str, int] = {}
        self._events: list[Event] = []
        self._closed = False
        self._stopping = False

    # --- the driver's side ---------------------------------------------------------------------

    def add(self, specs: list[RunSpec]) -> None:
        """Queue runs for any job, in order, first the one that suits what a job has loaded."""
        for spec in specs:
            if spec.run_id not in self._specs:
                self._specs[spec.run_id] = spec
                self._queue.append(spec.run_id)

    def assign(self, job: str, specs: list[RunSpec]) -> None:
        """Queue runs for one job alone, which ends after them."""
        for spec in specs:
            self._specs[spec.run_id] = spec
        state = self._job(job)
        state.own = deque(spec.run_id for spec in specs)
        state.promised = len(specs)

    def close(self) -> None:
        """No more runs will come: a job that finds the queue empty ends."""
        self._closed = True

    def stop(self) -> None:
        """Every job stops its run at the next step and ends."""
        self._stopping = True

    def requeue(self, lost: Lost) -> None:
        """Put a lost run back at the front of the queue it came from."""
        own = self._job(lost.job).own
        (self._queue if own is None else own).appendleft(lost.run_id)

    def poll(self, since: int) -> tuple[list[Event], dict[str, JobState], list[Lost]]:
        """Events from number `since` on, the jobs, and the runs lost since the last poll."""
        lost, self._lost = self._lost, []
        return self._events[since:], self._jobs, lost

    # --- a job's side --------------------------------------------------------------------------

    def launched(self, job: str) -> bool:
        """A process of `job` began; what an earlier one had in hand is lost. False: give up."""
        state = self._job(job)
        state.launches += 1
        self._event("launched", job, None)
        hopeless = state.launches > MAX_LAUNCHES
        if state.current is not None:
            times = self._lost_times[state.current] = self._lost_times.get(state.current, 0) + 1
            kind: Literal["launch", "worker_lost"] = "worker_lost" if state.steps else "launch"
            self._lost.append(Lost(state.current, job, kind, times))
            self._event("lost", job, state.current)
            state.current = None
        state.sequence = -1
        return not hopeless

    def broken(self, job: str, error: str) -> None:
        """A job cannot work at all on this installation."""
        self._event("broken", job, None, detail={"error": error})

    def next(self, job: str, sequence: int, loaded: tuple[str, str] | None) -> RunSpec | Answer:
        """The run number `sequence` of `job`, the same when asked again.

        `loaded` is the (backbone, dataset) that the job holds; a run of that pair is preferred.
        """
        state = self._job(job)
        if sequence == state.sequence and state.current is not None:
            return self._specs[state.current]
        if self._stopping:
            return "end"
        queue = self._queue if state.own is None else state.own
        if not queue:
            return "end" if self._closed or state.complete else "wait"
        run_id = self._preferred(queue, loaded)
        queue.remove(run_id)
        state.sequence, state.current = sequence, run_id
        state.epoch = state.step = state.steps = 0
        state.epochs = self._specs[run_id].science["train"]["epochs"]
        self._event("started", job, run_id)
        return self._specs[run_id]

    def progress(self, job: str, run_id: str, epoch: int, step: int, steps: int) -> bool:
        """Note how far a run is; True asks the job to stop it."""
        state = self._job(job)
        if state.current == run_id:
            if state.steps == 0:
                self._event("training", job, run_id)
            state.epoch, state.step, state.steps = epoch, step, steps
        return self._stopping

    def give_up(self, lost: Lost) -> None:
        """A lost run is not tried again."""
        self._job(lost.job).promised -= 1

    def finished(
        self, job: str, run_id: str, status: str, detail: dict[str, float | str | None]
    ) -> None:
        """A run of `job` is committed."""
        state = self._job(job)
        if state.current == run_id:
            state.current = None
            state.launches = 0
            state.finished += 1
            self._event("finished", job, run_id, status, detail)

    # -------------------------------------------------------------------------------------------

    def _preferred(self, queue: deque[str], loaded: tuple[str, str] | None) -> str:
        for run_id in queue:
            spec = self._specs[run_id]
            if (spec.backbone, spec.dataset) == loaded:
                return run_id
        return queue[0]

    def _job(self, job: str) -> JobState:
        return self._jobs.setdefault(job, JobState())

    def _event(
        self,
        kind: EventKind,
        job: str,
        run_id: str | None,
        status: str = "",
        detail: dict[str, float | str | None] | None = None,
    ) -> None:
        self._events.append(Event(kind, job, run_id, time.time(), status, detail or {}))
