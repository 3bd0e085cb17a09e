"""Which jobs there are, and which runs go to which: to whoever asks, or to a job started for them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from orchestrator.capacity import Capacity
from orchestrator.dispatch import JobState, News, Work
from orchestrator.jobs import Jobs
from orchestrator.order import longest_first
from orchestrator.outcome import View
from orchestrator.staffing import Demand, to_start
from suites.schema import Resources
from suites.suite import Suite

FIRST_ALONE = True
"""Two jobs that start at once on one machine take the processor from one another, and both train
later: there the first has it alone until its process is there."""


class Staff:
    """The jobs of one drive. `call` asks the dispatcher."""

    def __init__(
        self,
        suite: Suite,
        jobs: Jobs,
        call: Callable[..., Any],
        view: View,
        *,
        capacity: Capacity,
        most: int | None,
    ) -> None:
        """At most `most` jobs live at once; None stands for as many as fit."""
        self._suite, self._jobs, self._call, self._view = suite, jobs, call, view
        self.capacity, self._most = capacity, most
        """The cluster, which may grow and shrink."""
        self.most_alive = 1
        """How many jobs lived at once so far."""
        per_job = suite.execution.runs_per_job
        self._per_job = None if per_job == "unlimited" else per_job
        self._numbers = itertools.count(1)
        self._batches: list[list[Work]] = []
        """Runs for jobs of their own, which are not started yet; those of one have one shape."""
        self._batch_of: dict[str, list[Work]] = {}
        self._shape_of: dict[str, Resources] = {}

    def queue(self, works: list[Work], *, first: bool = False) -> None:
        """Runs to be done, before all others or after them; the longest of them first."""
        works = longest_first(works)
        if self._per_job is None:
            self._call("add", [work for work in works if work.memory_factor == 1], first=first)
            # A job with more memory is started for each run that needs it.
            self._batches += [[work] for work in works if work.memory_factor > 1]
            return
        size, batches = self._per_job, []
        for shape in dict.fromkeys(work.shape for work in works):
            alike = [work for work in works if work.shape == shape]
            batches += [alike[at : at + size] for at in range(0, len(alike), size)]
        self._batches = batches + self._batches if first else self._batches + batches

    def fill(self, news: News) -> None:
        """Start as many jobs as fit and would find runs to do."""
        alive = self._jobs.alive()
        self.most_alive = max(self.most_alive, len(alive))
        states = {name: news.jobs.get(name, JobState()) for name in alive}
        staying = {name for name, s in states.items() if not (s.complete or s.dismissed)}
        jobs = Counter(self._shape_of[name] for name in staying)
        idle = Counter(
            self._shape_of[name]
            for name in staying - self._batch_of.keys()
            if states[name].current is None
        )
        batches = Counter(batch[0].shape for batch in self._batches)
        demands = {
            shape: Demand(
                worker=self._jobs.asked(shape),
                workers=self.capacity.workers_now(
                    self._jobs.asked(shape), shape.least_workers, shape.workers
                ),
                jobs=jobs[shape],
                wanted=batches[shape] + max(0, news.waiting.get(shape, 0) - idle[shape]),
            )
            for shape in {**jobs, **batches, **news.waiting}
        }
        most = self._most
        single = FIRST_ALONE and len(self.capacity.nodes) == 1
        if single and all(state.process is None for state in states.values()):
            most = 1
        for shape in to_start(self.capacity, demands, most):
            self._start(shape)

    def works_of(self, job: str) -> list[Work]:
        """What a job was started for; nothing for one that takes what there is."""
        return self._batch_of.get(job, [])

    def runs_of(self, job: str) -> set[str]:
        """The runs among these."""
        return {work.spec.run_id for work in self.works_of(job)}

    def apart(self) -> set[str]:
        """Runs that some job has or will have for itself."""
        batches = (*self._batches, *self._batch_of.values())
        return {work.spec.run_id for batch in batches for work in batch}

    def _start(self, shape: Resources) -> None:
        """A job for the first batch of that shape, or for whatever is queued."""
        if not self._jobs.alive():
            self._view.note("starting jobs, 10 to 20 s")
        at = next((i for i, batch in enumerate(self._batches) if batch[0].shape == shape), None)
        if at is None:
            name, factor = self._name(None), 1
        else:
            batch = self._batches.pop(at)
            name = self._name(batch[0].spec.run_id if self._per_job == 1 else None)
            self._batch_of[name], factor = batch, max(work.memory_factor for work in batch)
            self._call("assign", name, batch)
        self._shape_of[name] = shape
        self._jobs.start(name, shape, factor)

    def _name(self, run_id: str | None) -> str:
        """A job's name: of the run that it is for, or counted; never one that was used."""
        if run_id is not None and run_id not in self._batch_of:
            return run_id
        stem = run_id or self._suite.name
        return f"{stem}-{next(self._numbers)}"
