"""How long runs will take, from runs like them that the store has, and a suite on a cluster with them."""

from __future__ import annotations

import heapq
import itertools
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from orchestrator.capacity import Capacity, RequestError
from orchestrator.staffing import Demand, Shape, to_start

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from results.store import Store
    from suites.schema import Resources
    from suites.spec import RunSpec
    from suites.suite import Suite

START_SECONDS = 16.0
"""From the start of a job to its first run, as measured on two cores with a new embedded Ray."""


@dataclass
class History:
    """The wall seconds of runs that were done, in one attempt each."""

    alike: dict[str, list[float]] = field(default_factory=dict)
    """By backbone, method with its settings, data set with its settings and number of epochs."""
    akin: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Of one epoch, by backbone and method."""
    _known: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store | None) -> Self:
        """Of every attempt that succeeded; nothing without a store."""
        history = cls()
        if store is None:
            return history
        names = ("status", "wall_seconds", "spec", "resumed_from_epoch")
        for row in store.attempts(names).to_pylist():
            # An attempt that went on from a checkpoint took less than the run does.
            if row["status"] == "succeeded" and row["wall_seconds"] and not row[names[-1]]:
                history.add(json.loads(row["spec"]), row["wall_seconds"])
        return history

    def add(self, science: Mapping[str, Any], seconds: float) -> None:
        """Take in a run that took so long."""
        alike, akin = _keys(science)
        self.alike.setdefault(alike, []).append(seconds)
        self.akin.setdefault(akin, []).append(seconds / science["train"]["epochs"])

    def seconds(self, spec: RunSpec) -> float | None:
        """The median of the runs most like `spec`; None where there is none."""
        if spec.config_id not in self._known:
            self._known[spec.config_id] = self._median(spec.seedless)
        return self._known[spec.config_id]

    def _median(self, science: Mapping[str, Any]) -> float | None:
        if not self.akin:
            return None
        alike, akin = _keys(science)
        if alike in self.alike:
            return statistics.median(self.alike[alike])
        if akin in self.akin:
            return statistics.median(self.akin[akin]) * float(science["train"]["epochs"])
        return None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How long the runs that are to be done will take."""

    seconds: float | None
    """From the start to the last commit; None where no run has a history."""
    start_seconds: float
    """Of these the time until the first job has its first run."""
    job_start_seconds: float
    """What all jobs together spend on starting."""
    jobs: int
    """How many live at once, at most."""
    runs: int
    unknown: int
    """Runs without a history: taken to last as long as the median of the others."""
    refused: str | None = None
    """Why the cluster can never run them all."""


def expected(
    capacity: Capacity,
    demands: Mapping[Shape, Demand],
    runs: Iterable[tuple[Shape, float | None]],
    *,
    most: int | None = None,
    per_job: int | None = None,
) -> Expected:
    """What `runs`, each of one of the shapes of `demands`, take on a cluster.

    Jobs are started as a drive starts them, and each takes the longest run of its shape that is left;
    `per_job` runs at most, where that is given. Runs are taken never to fail.
    """
    listed = list(runs)
    known = [seconds for _, seconds in listed if seconds is not None]
    unknown = len(listed) - len(known)
    if not listed or not known:
        return Expected(
            seconds=None if listed else 0.0,
            start_seconds=START_SECONDS if listed else 0.0,
            job_start_seconds=0.0,
            jobs=0,
            runs=len(listed),
            unknown=unknown,
        )
    median = statistics.median(known)
    left: dict[Shape, list[float]] = {}
    for shape, seconds in listed:
        left.setdefault(shape, []).append(median if seconds is None else seconds)
    for each in left.values():
        each.sort()
    alive = dict.fromkeys(demands, 0)
    starting = dict.fromkeys(demands, 0)
    order, now, started, widest = itertools.count(), 0.0, 0, 0
    # When a job has nothing in hand, what shape it has, and how many runs it did.
    events: list[tuple[float, int, Shape, int]] = []
    has_room = True
    while True:
        current = {
            shape: replace(
                demand,
                jobs=alive[shape],
                wanted=_jobs_for(len(left.get(shape, ())), per_job) - starting[shape],
            )
            for shape, demand in demands.items()
        }
        for shape in to_start(capacity, current, most) if has_room else ():
            alive[shape] += 1
            starting[shape] += 1
            started += 1
            heapq.heappush(events, (now + START_SECONDS, next(order), shape, 0))
        widest = max(widest, sum(alive.values()))
        if not events:
            break
        moment, _, shape, done = heapq.heappop(events)
        starting[shape] -= done == 0
        has_room = False
        if left.get(shape) and (per_job is None or done < per_job):
            seconds = left[shape].pop()
            heapq.heappush(events, (moment + seconds, next(order), shape, done + 1))
        else:
            alive[shape] -= 1
            has_room = True
        now = moment
    return Expected(
        seconds=now,
        start_seconds=START_SECONDS,
        job_start_seconds=started * START_SECONDS,
        jobs=widest,
        runs=len(listed),
        unknown=unknown,
    )


def of_plan(
    suite: Suite, plan: Plan, store: Store | None, capacity: Capacity, most: int | None = None
) -> Expected:
    """What the unfinished runs of a suite take; finals that wait for their selection are not in it."""
    history = History.of(store)
    specs = [run.cell.spec for run in plan.runs if run.status in ("queued", "stopped", "missing")]
    runs = [(suite.shape(spec), history.seconds(spec)) for spec in specs]
    limit, per_job = suite.execution.max_parallel, suite.execution.runs_per_job
    most = most or (None if limit == "auto" else limit)
    demands: dict[Resources, Demand] = {}
    for shape in dict.fromkeys(shape for shape, _ in runs):
        worker = shape.of_worker(has_gpus=capacity.has_gpus)
        try:
            capacity.parallel(worker, most, shape.least_workers)
        except RequestError as error:
            return replace(
                expected(capacity, {}, [], most=most), runs=len(runs), refused=str(error)
            )
        workers = capacity.workers_now(worker, shape.least_workers, shape.workers)
        demands[shape] = Demand(worker=worker, workers=workers)
    return expected(
        capacity,
        demands,
        runs,
        most=most,
        per_job=None if per_job == "unlimited" else per_job,
    )


def _jobs_for(runs: int, per_job: int | None) -> int:
    return runs if per_job is None else -(-runs // per_job)


def _keys(science: Mapping[str, Any]) -> tuple[str, tuple[str, str]]:
    backbone, method = science["backbone"]["name"], science["method"]
    dataset, train = science["dataset"], science["train"]
    config = [dataset["name"], dataset["config"], train["epochs"]]
    alike = json.dumps([backbone, method, *config], sort_keys=True)
    return alike, (backbone, method["name"])
