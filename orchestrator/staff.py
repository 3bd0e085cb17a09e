"""Which jobs there are, and which runs go to which: to whoever asks, or to a job started for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from orchestrator.dispatch import JobState, News, Work
from orchestrator.jobs import Jobs
from orchestrator.outcome import View
from suites.suite import Suite


class Staff:
    """The jobs of one drive. `call` asks the dispatcher."""

    def __init__(
        self, suite: Suite, jobs: Jobs, call: Callable[..., Any], view: View, *, parallel: int
    ) -> None:
        self._suite, self._jobs, self._call, self._view = suite, jobs, call, view
        self.parallel = parallel
        """How many jobs there may be at once; the cluster may grow and shrink."""
        per_job = suite.execution.runs_per_job
        self._per_job = None if per_job == "unlimited" else per_job
        self._numbers = itertools.count(1)
        self._batches: list[list[Work]] = []
        """Runs for jobs of their own, which are not started yet."""
        self._batch_of: dict[str, list[Work]] = {}

    def queue(self, works: list[Work], *, first: bool = False) -> None:
        """Runs to be done, before all others or after them."""
        if self._per_job is None:
            self._call("add", [work for work in works if work.memory_factor == 1], first=first)
            # A job with more memory is started for each run that needs it.
            self._batches += [[work] for work in works if work.memory_factor > 1]
            return
        size = self._per_job
        batches = [works[at : at + size] for at in range(0, len(works), size)]
        self._batches = batches + self._batches if first else self._batches + batches

    def fill(self, news: News, needed: int) -> None:
        """Keep as many jobs as fit and are needed for so many runs."""
        alive = self._jobs.alive()
        complete = {name for name in alive if news.jobs.get(name, JobState()).complete}
        started = 0
        room = self.parallel - len(alive - complete)
        for _ in range(min(room, len(self._batches))):
            batch = self._batches.pop(0)
            name = self._name(batch[0].spec.run_id if self._per_job == 1 else None)
            self._batch_of[name] = batch
            self._call("assign", name, batch)
            self._start(name, max(work.memory_factor for work in batch))
            started += 1
        if self._per_job is None:
            for _ in range(min(room, needed - len(alive)) - started):
                self._start(self._name(None))

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

    def _name(self, run_id: str | None) -> str:
        """A job's name: of the run that it is for, or counted; never one that was used."""
        if run_id is not None and run_id not in self._batch_of:
            return run_id
        stem = run_id or self._suite.name
        return f"{stem}-{next(self._numbers)}"

    def _start(self, name: str, memory_factor: int = 1) -> None:
        if not self._jobs.alive():
            self._view.note("starting jobs, 10 to 20 s")
        self._jobs.start(name, memory_factor)
