"""The dispatcher hands runs to jobs and keeps what the driver shows. Ray makes an actor of it.

It is a cache: plan and store hold the truth, jobs commit without it, and the driver fills a new one
when it died (`generation` tells). Every call is idempotent or keeps only the newest state, so a call
that Ray repeats does no harm.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.order import preferred
from suites.schema import Resources
from suites.spec import RunSpec

MAX_LAUNCHES = 3
"""Starts of one job without a training step in between, after which it gives up."""

Answer = Literal["wait", "end"]
EventKind = Literal["launched", "started", "training", "finished", "elsewhere", "waiting", "broken"]


@dataclass(frozen=True)
class Work:
    """A run to do, and how this time."""

    spec: RunSpec
    reason: str | None = None
    """Why it is attempted again, in words; None for the first time."""
    micro_batch: int | None = None
    """Images per backward pass; None for the whole batch at once."""
    restart: bool = False
    """Whether its checkpoints are to be left aside."""
    memory_factor: int = 1
    """How many times the memory that the suite asks for it needs."""
    shape: Resources = field(default_factory=Resources)
    """What the job that does it asks for: one of another shape does not get it."""
    seconds: float | None = None
    """How long it is expected to take; None where no run like it was ever done."""


@dataclass(frozen=True)
class Process:
    """The process of a job, so that it can be found and told from a later one with its number."""

    pid: int
    started: str
    """Its start time as the system has it (`/proc/<pid>/stat`), empty where there is none."""
    node: str
    hostname: str
    actor: str
    """The id of Ray's actor that it is."""
    workers: int = 1  # of the job, this one counted


@dataclass
class JobState:
    """What the dispatcher knows of one job."""

    launches: int = 0
    """Since the last training step."""
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
    dismissed: bool = False
    """Whether it was told to end."""
    process: Process | None = None
    ended: tuple[str, int] | None = None
    """The attempt that it committed last."""
    heard: float = 0.0
    """When the job last told of progress, on the dispatcher's own monotonic clock."""
    began: tuple[float, float] = (0.0, 0.0)
    """When the run in hand was first heard of, on the same clock, and the epochs it had then."""
    done: float = 0.0
    """Epochs of the run in hand that are done, with the begun one's part."""
    images_per_second: float | None = None
    """Of the run's last whole epoch of training; None before there is one."""

    @property
    def seconds_left(self) -> float | None:
        """Of the run in hand, if it goes on as it went so far; None where that is not known."""
        moment, epochs = self.began
        if self.current is None or self.done <= epochs:
            return None
        return (self.heard - moment) / (self.done - epochs) * (self.epochs - self.done)

    @property
    def complete(self) -> bool:
        """Whether a job with a queue of its own has none of its runs left, not even a lost one."""
        return self.own is not None and self.finished >= self.promised


@dataclass(frozen=True)
class Event:
    """Something that happened, for the driver to show; `at` is seconds since the epoch."""

    kind: EventKind
    job: str
    run_id: str | None
    at: float
    status: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class News:
    """What the driver hears when it polls."""

    generation: str
    """Another one than before: the dispatcher died and knows nothing."""
    events: list[Event]
    total: int
    """How many events there were so far: what to poll from next."""
    jobs: dict[str, JobState]
    silent: dict[str, float]
    """Seconds since each job with a run in hand told of progress."""
    waiting: dict[Resources, int]
    """How many runs of each shape are queued for any job."""


_USUAL = Resources()


class Dispatcher:
    """Queues of runs, state of jobs, log of events."""

    def __init__(self) -> None:
        self._generation = secrets.token_hex(4)
        self._work: dict[str, Work] = {}
        self._queues: dict[Resources, deque[str]] = {}
        self._jobs: dict[str, JobState] = {}
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._closed = False
        self._stopping = False
        self._unwanted: set[str] = set()

    # --- the driver's side ---------------------------------------------------------------------

    def add(self, works: list[Work], *, first: bool = False) -> None:
        """Queue runs for any job, in order; a run that is queued or in hand already stays there."""
        taken = {state.current for state in self._jobs.values()}.union(*self._queues.values())
        new = [work for work in works if work.spec.run_id not in taken]
        self._work |= {work.spec.run_id: work for work in new}
        for shape in dict.fromkeys(work.shape for work in new):
            queue = self._queues.setdefault(shape, deque())
            ids = [work.spec.run_id for work in new if work.shape == shape]
            if first:
                queue.extendleft(reversed(ids))
            else:
                queue.extend(ids)

    def assign(self, job: str, works: list[Work], *, in_hand: int = 0) -> None:
        """Queue runs for one job alone, which ends after them and those it has `in_hand`."""
        self._work |= {work.spec.run_id: work for work in works}
        state = self._job(job)
        state.own = deque(work.spec.run_id for work in works)
        state.promised = len(works) + in_hand

    def close(self) -> None:
        """No more runs will come: a job that finds the queue empty ends."""
        self._closed = True

    def stop(self) -> None:
        """Every job stops its run at the next step and ends."""
        self._stopping = True

    def stop_run(self, run_id: str) -> None:
        """One run stops at its next step, or is not begun."""
        self._unwanted.add(run_id)
        for queue in (*self._queues.values(), *(state.own for state in self._jobs.values())):
            if queue and run_id in queue:
                queue.remove(run_id)

    def poll(self, since: int) -> News:
        """Events from number `since` on, which are then forgotten, and how things stand."""
        while self._events and self._dropped < since:
            self._events.popleft()
            self._dropped += 1
        now = time.monotonic()
        return News(
            generation=self._generation,
            events=list(self._events),
            total=self._dropped + len(self._events),
            jobs=self._jobs,
            silent={name: now - s.heard for name, s in self._jobs.items() if s.current},
            waiting={shape: len(queue) for shape, queue in self._queues.items() if queue},
        )

    # --- a job's side --------------------------------------------------------------------------

    def launched(self, job: str, process: Process) -> bool:
        """A process of `job` began; what an earlier one had in hand is lost. False: give up."""
        state = self._job(job)
        if state.process == process:
            return state.launches <= MAX_LAUNCHES
        state.process, state.heard = process, time.monotonic()
        state.launches += 1
        seen = {"steps": state.steps, "pid": process.pid, "workers": process.workers}
        self._event("launched", job, None, detail={"lost": state.current, **seen})
        self._drop(state)
        state.sequence = -1
        return state.launches <= MAX_LAUNCHES

    def gone(self, job: str) -> tuple[str | None, int]:
        """The process of `job` is gone with its node; the run that it had, and its steps per epoch."""
        state = self._job(job)
        lost = state.current, state.steps
        self._drop(state)
        return lost

    def broken(self, job: str, error: str) -> None:
        """A job cannot work at all on this installation."""
        self._event("broken", job, None, detail={"error": error})

    def next(
        self, job: str, sequence: int, loaded: tuple[str, str] | None, shape: Resources = _USUAL
    ) -> Work | Answer:
        """The run number `sequence` of `job`, the same when asked again.

        `loaded` is the (backbone, dataset) that the job holds; `order` says what that counts for. A
        job whose `shape` has no run queued ends where one of another shape waits for its place.
        """
        state = self._job(job)
        if sequence == state.sequence and state.current is not None:
            return self._work[state.current]
        if self._stopping:
            return "end"
        queue = self._queues.get(shape, deque()) if state.own is None else state.own
        if not queue:
            others = state.own is None and any(self._queues.values())
            state.dismissed = self._closed or state.complete or others
            return "end" if state.dismissed else "wait"
        run_id = preferred(queue, self._work, loaded)
        queue.remove(run_id)
        state.sequence, state.current = sequence, run_id
        state.epoch = state.step = state.steps = 0
        state.done, state.images_per_second = 0.0, None
        state.epochs = self._work[run_id].spec.science["train"]["epochs"]
        state.heard = time.monotonic()
        self._event("started", job, run_id)
        return self._work[run_id]

    def progress(
        self,
        job: str,
        run_id: str,
        epoch: int,
        step: int,
        steps: int,
        images_per_second: float | None = None,
    ) -> bool:
        """Note how far a run is; True asks the job to stop it."""
        state = self._job(job)
        if state.current is None:  # a dispatcher that began after the run did
            state.current = run_id
        if state.current == run_id:
            now, done = time.monotonic(), epoch - 1 + step / max(steps, 1)
            if state.steps == 0:
                self._event("training", job, run_id)
                state.began = now, done
            state.epoch, state.step, state.steps = epoch, step, steps
            # Steps of an evaluation are told like those of the epoch that they follow.
            state.done, state.images_per_second = max(state.done, done), images_per_second
            state.launches, state.heard = 0, now
        return self._stopping or run_id in self._unwanted

    def elsewhere(self, job: str, run_id: str, claim: dict[str, Any]) -> None:
        """`job` did not begin a run: another driver's job opened an attempt (`claim`), or did it ({})."""
        state = self._job(job)
        if state.current == run_id:
            self._drop(state)
            self._event("elsewhere", job, run_id, detail=claim)

    def waiting(self, job: str, why: str) -> None:
        """`job` cannot go on for a while; it is no stall."""
        state = self._job(job)
        state.heard = time.monotonic()
        self._event("waiting", job, state.current, detail={"why": why})

    def finished(self, job: str, run_id: str, status: str, detail: dict[str, Any]) -> None:
        """An attempt of `job` is committed; `detail` has its number."""
        state, ended = self._job(job), (run_id, detail["attempt"])
        if state.ended != ended:
            state.ended, state.current, state.launches = ended, None, 0
            state.finished += 1
            self._event("finished", job, run_id, status, detail)

    # -------------------------------------------------------------------------------------------

    def _drop(self, state: JobState) -> None:
        """What the job has in hand will not be finished by it."""
        if state.current is not None and state.own is not None:
            state.promised -= 1
        state.current = None

    def _job(self, job: str) -> JobState:
        return self._jobs.setdefault(job, JobState())

    def _event(
        self,
        kind: EventKind,
        job: str,
        run_id: str | None,
        status: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        self._events.append(Event(kind, job, run_id, time.time(), status, detail or {}))
