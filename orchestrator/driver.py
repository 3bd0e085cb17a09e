"""The driver: starts Ray Train jobs, follows them through the dispatcher, and ends with the suite."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from orchestrator import cluster, packages, provenance, retry, rows
from orchestrator.dispatch import Dispatcher, Event, JobState, Lost
from orchestrator.job import JobConfig
from orchestrator.jobs import Jobs
from orchestrator.outcome import Outcome, View
from orchestrator.plan import Plan, make_plan
from results.store import Store
from suites.spec import RunSpec
from suites.suite import Suite

POLL_SECONDS = 0.2
DRAIN_SECONDS = 30.0
"""How long a first signal waits for the jobs to stop at their next step."""


def drive(
    suite: Suite,
    store: Store,
    view: View,
    *,
    retry_failed: bool = False,
    address: str | None = None,
    max_parallel: int | None = None,
    began: float | None = None,
) -> Outcome:
    """Run what is missing of `suite`; commit every attempt to `store`.

    `began` is the monotonic clock at the user's prompt. Raises ClusterError where Ray cannot be had.
    The caller has checked that nothing the suite needs is absent.
    """
    plan = make_plan(suite, store)
    save(suite, store, plan)
    if not plan.to_do(retry_failed=retry_failed):
        return Outcome(left=_left(plan))
    view.note("starting Ray")
    limit = suite.execution.max_parallel
    wanted = max_parallel or (None if limit == "auto" else limit)
    threads = suite.resources.cpus
    with cluster.running(address, cpus=None, threads=threads) as ray_cluster:
        parallel = _fitting(suite, ray_cluster, wanted)
        drive_ = _Drive(suite, store, view, ray_cluster, parallel, began or time.monotonic())
        with _signals(drive_):
            return drive_.run(plan, retry_failed)


def save(suite: Suite, store: Store, plan: Plan) -> None:
    """Keep the suite's text and its planned cells in the store."""
    planned = [rows.planned(suite, position, run) for position, run in enumerate(plan.runs)]
    for item in plan.waiting:
        for _ in range(item.group.final_count):
            planned.append(rows.waiting(suite, len(planned), item.group))
    store.save_plan(suite.name, suite.digest, suite.text, planned, suite.overrides)


def _left(plan: Plan) -> int:
    """Wanted runs that have not ended."""
    ended = ("succeeded", "failed")
    return sum(count for status, count in plan.counts().items() if status not in ended)


def _fitting(suite: Suite, ray_cluster: cluster.Cluster, wanted: int | None) -> int:
    """How many jobs fit at once."""
    gpus = _gpus_per_job(suite, ray_cluster)
    if gpus > ray_cluster.gpus or suite.resources.cpus > ray_cluster.cpus:
        raise cluster.ClusterError(
            f"a job of this suite asks for {suite.resources.cpus} CPUs and {gpus:g} GPUs; "
            f"Ray has {ray_cluster.cpus} CPUs and {ray_cluster.gpus:g} GPUs"
        )
    fit = ray_cluster.cpus // suite.resources.cpus
    if gpus:
        fit = min(fit, int(ray_cluster.gpus / gpus))
    return min(fit, wanted) if wanted else fit


def _gpus_per_job(suite: Suite, ray_cluster: cluster.Cluster) -> float:
    """`auto` is one GPU where Ray has any, else none."""
    gpus = suite.resources.gpus
    return float(ray_cluster.gpus > 0) if gpus == "auto" else gpus


class _Drive:
    """One suite being driven."""

    def __init__(
        self,
        suite: Suite,
        store: Store,
        view: View,
        ray_cluster: cluster.Cluster,
        parallel: int,
        began: float,
    ) -> None:
        import ray

        self._suite, self._store, self._view = suite, store, view
        self._parallel, self._began = parallel, began
        self._dispatcher = ray.remote(num_cpus=0, max_restarts=0)(Dispatcher).remote()
        self._batches: Iterator[list[RunSpec]] = iter(())
        self._specs: dict[str, RunSpec] = {}
        self._left: set[str] = set()
        self._seen = 0
        self._outcome = Outcome()
        self._deadline = 0.0
        self._numbers = itertools.count(1)
        template = JobConfig(
            name="",
            dispatcher=self._dispatcher,
            store=str(store.path),
            threads=suite.resources.cpus,
            gpu_share=_gpus_per_job(suite, ray_cluster),
            rooms=packages.found(),
            provenance=provenance.of_source(),
        )
        self._jobs = Jobs(template, ray_cluster.scratch)

    def run(self, plan: Plan, retry_failed: bool) -> Outcome:
        """Execute the cells, then the finals that their selection makes, until nothing is left."""
        tried: set[str] = set()
        while self._outcome.signal is None and self._outcome.problem is None:
            ready = [
                run.cell.spec
                for run in plan.to_do(retry_failed=retry_failed)
                if run.cell.spec.run_id not in tried
            ]
            if not ready:
                break
            tried |= {spec.run_id for spec in ready}
            self._execute(ready)
            if not self._suite.groups():
                break
            plan = make_plan(self._suite, self._store)
            save(self._suite, self._store, plan)
        self._call("stop" if self._outcome.signal else "close")
        self._outcome.left = _left(make_plan(self._suite, self._store))
        return self._outcome

    def interrupt(self, number: int) -> None:
        """First signal: stop at the next step. Second: stop now."""
        if self._outcome.signal is None:
            self._outcome.signal = number
            self._deadline = time.monotonic() + DRAIN_SECONDS
            self._view.note("stopping at the next step; a second signal stops at once")
        else:
            self._deadline = time.monotonic()

    # -------------------------------------------------------------------------------------------

    def _execute(self, specs: list[RunSpec]) -> None:
        if not self._jobs.alive():
            self._view.note("starting jobs, 10 to 20 s")
        self._specs |= {spec.run_id: spec for spec in specs}
        self._left = {spec.run_id for spec in specs}
        per_job = self._suite.execution.runs_per_job
        if per_job == "unlimited":
            self._call("add", specs)
            for _ in range(min(self._parallel, len(specs)) - len(self._jobs.alive())):
                self._jobs.start(f"{self._suite.name}-{next(self._numbers)}")
        else:
            firsts = range(0, len(specs), per_job)
            self._batches = iter([specs[first : first + per_job] for first in firsts])
        asked_to_stop = False
        while self._left:
            # Asked before the poll: what a job told before it ended is then known after it.
            dead = self._jobs.why_dead()
            states = self._poll()
            if per_job != "unlimited" and self._outcome.signal is None:
                self._start_batches(states)
            if self._outcome.signal is not None:
                if not asked_to_stop:
                    self._call("stop")
                    asked_to_stop = True
                busy = [s for s in states.values() if s.current]
                if not busy or time.monotonic() > self._deadline:
                    self._close_open_claims("stopped")
                    return
            if dead is not None and self._left and self._jobs.why_dead() is not None:
                self._outcome.problem = self._outcome.problem or dead
            if self._outcome.problem is not None:
                return
            time.sleep(POLL_SECONDS)

    def _start_batches(self, states: dict[str, JobState]) -> None:
        """Keep as many jobs with runs of their own as fit."""
        ended = {name for name, state in states.items() if state.complete}
        room = self._parallel - len(self._jobs.alive() - ended)
        for batch in itertools.islice(self._batches, max(0, room)):
            name = batch[0].run_id
            self._call("assign", name, batch)
            self._jobs.start(name)

    def _poll(self) -> dict[str, JobState]:
        """Take in what happened since the last poll."""
        polled: tuple[list[Event], dict[str, JobState], list[Lost]] = self._call("poll", self._seen)
        events, states, lost = polled
        self._seen += len(events)
        for event in events:
            self._take(event)
        for item in lost:
            self._take_lost(item)
        ended = self._outcome.succeeded + self._outcome.failed
        total = ended + len(self._left)
        self._view.update(self._outcome.succeeded, self._outcome.failed, total, states)
        return states

    def _take(self, event: Event) -> None:
        outcome = self._outcome
        if event.kind == "training" and outcome.seconds_to_first_step is None:
            outcome.seconds_to_first_step = time.monotonic() - self._began
        outcome.started += event.kind == "started"
        if event.kind == "broken":
            outcome.problem = str(event.detail["error"])
        if event.kind == "finished" and event.run_id in self._left:
            self._left.discard(event.run_id)
            outcome.succeeded += event.status == "succeeded"
            if event.status == "failed":
                outcome.failed += 1
                outcome.failures.append((event.run_id, str(event.detail["error"])))
        self._view.event(event, self._specs.get(event.run_id or ""))

    def _take_lost(self, lost: Lost) -> None:
        """Record the attempt that died with its job; try the run again while its budget lasts."""
        decision = retry.decide(lost.kind, lost.times)
        self._close(lost.run_id, "failed", kind=lost.kind, error=decision.reason)
        self._view.note(f"{lost.run_id}: {decision.reason}")
        if decision.again:
            self._call("requeue", lost)
        else:
            self._call("give_up", lost)
            self._left.discard(lost.run_id)
            self._outcome.failed += 1
            self._outcome.failures.append((lost.run_id, decision.reason))

    def _close_open_claims(self, status: str) -> None:
        for run_id in self._left:
            self._close(run_id, status)

    def _close(
        self, run_id: str, status: str, *, kind: str | None = None, error: str | None = None
    ) -> None:
        """Commit a row for the attempt of a run that was opened and not closed, if there is one."""
        claim = self._store.open_claims().get(run_id)
        if claim is not None:
            row = rows.attempt(
                self._specs[run_id],
                number=claim["attempt"],
                status=status,
                failure_kind=kind,
                error=error,
                started_at=None,
                job=claim["job"],
                hostname=claim["hostname"],
            )
            self._store.commit(row)

    def _call(self, verb: str, *args: Any) -> Any:
        import ray

        return ray.get(getattr(self._dispatcher, verb).remote(*args))


@contextmanager
def _signals(drive_: _Drive) -> Iterator[None]:
    """SIGINT and SIGTERM go to the drive, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        drive_.interrupt(number)

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
