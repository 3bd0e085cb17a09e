"""The driver: plans, holds the suite's lease, starts Ray and follows the suite to its end."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType

from orchestrator import cluster, nodes, packages, provenance, rows
from orchestrator.capacity import RequestError
from orchestrator.dispatch import Dispatcher, Work
from orchestrator.expected import History
from orchestrator.foreman import Foreman
from orchestrator.job import JobConfig
from orchestrator.jobs import Jobs
from orchestrator.ledger import Ledger
from orchestrator.live import label
from orchestrator.outcome import Outcome, View
from orchestrator.plan import UNFINISHED_RUNS, Plan, Wanted, make_plan
from results.lease import Lease
from results.store import Store
from suites.schema import Resources
from suites.spec import RunSpec
from suites.suite import Suite

END_SECONDS, HURRIED_SECONDS = 20.0, 2.0
"""How long jobs may take to end once there is no more to do, and after a signal."""


def drive(
    suite: Suite,
    store: Store,
    view: View,
    *,
    wanted: Wanted = UNFINISHED_RUNS,
    restart: bool = False,
    address: str | None = None,
    max_parallel: int | None = None,
    began: float | None = None,
) -> Outcome:
    """Run what is `wanted` of `suite`; commit every attempt to `store`.

    `restart` leaves checkpoints aside. `began` is the monotonic clock at the user's prompt. Raises
    LeaseHeldError where another driver has the suite, RequestError where a job asks for more than
    there is, ClusterError where Ray cannot be had. The caller has checked that nothing the suite
    needs is absent.
    """
    plan = make_plan(suite, store)
    if not plan.to_do(wanted):
        save(suite, store, plan)
        return Outcome(left=_left(plan))
    shapes = _shapes(suite, plan)
    _check_request(shapes, address)
    owner = {"command": " ".join(sys.argv), "user": getpass.getuser(), "host": socket.gethostname()}
    with Lease.take(store, suite.name, info=owner) as lease:
        ledger = Ledger(store, suite.retry, lease.name, view.note, fetch=nodes.read)
        _close_what_a_dead_driver_left(suite, ledger, plan)
        plan = make_plan(suite, store)
        save(suite, store, plan)
        ledger.compact()
        view.note("starting Ray")
        limit = suite.execution.max_parallel
        most = max_parallel or (None if limit == "auto" else limit)
        with cluster.running(address, cpus=None, threads=suite.resources.cpus) as ray_cluster:
            foreman = _foreman(suite, shapes, ledger, view, ray_cluster, lease, most, began)
            with _signals(foreman):
                return _rounds(foreman, suite, store, plan, wanted, restart=restart)


def save(suite: Suite, store: Store, plan: Plan) -> None:
    """Keep the suite's text and its planned cells in the store."""
    planned = [rows.planned(suite, position, run) for position, run in enumerate(plan.runs)]
    for item in plan.waiting:
        for _ in range(item.group.final_count):
            planned.append(rows.waiting(suite, len(planned), item.group))
    store.save_plan(suite.name, suite.digest, suite.text, planned, suite.overrides)


def _rounds(
    foreman: Foreman, suite: Suite, store: Store, plan: Plan, wanted: Wanted, *, restart: bool
) -> Outcome:
    """Execute the cells, then the finals that their selection makes, until nothing is left."""
    outcome, tried = foreman.outcome, set[str]()
    while not outcome.stopping and outcome.problem is None:
        ready = [run.cell.spec for run in plan.to_do(wanted) if run.cell.spec.run_id not in tried]
        if not ready:
            break
        tried |= {spec.run_id for spec in ready}
        history = foreman.patiently(partial(History.of, store))
        foreman.execute(
            [work(suite, s, restart=restart, seconds=history.seconds(s)) for s in ready]
        )
        if not suite.groups():
            break
        plan = make_plan(suite, store)
        foreman.patiently(partial(save, suite, store, plan))
    foreman.call("stop" if outcome.stopping else "close")
    foreman.jobs.join(HURRIED_SECONDS if outcome.stopping else END_SECONDS)
    outcome.left = _left(make_plan(suite, store))
    return outcome


def work(
    suite: Suite, spec: RunSpec, *, restart: bool = False, seconds: float | None = None
) -> Work:
    """A run as it is handed out for the first time."""
    most = suite.execution.micro_batch
    in_parts = most is not None and most < spec.train["batch_size"]
    return Work(
        spec,
        restart=restart,
        micro_batch=most if in_parts else None,
        shape=suite.shape(spec),
        seconds=seconds,
    )


def _foreman(
    suite: Suite,
    shapes: Mapping[Resources, str],
    ledger: Ledger,
    view: View,
    ray_cluster: cluster.Cluster,
    lease: Lease,
    most: int | None,
    began: float | None,
) -> Foreman:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    capacity = ray_cluster.capacity()
    # Where the driver is, so that the loss of another node does not take it away. On a dead
    # dispatcher Ray starts another and repeats the calls that were not answered.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    dispatcher = ray.remote(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    )(Dispatcher).remote()
    execution = suite.execution
    template = JobConfig(
        name="",
        dispatcher=dispatcher,
        store=str(ledger.store.path),
        threads=suite.resources.cpus,
        gpu_share=0.0,
        rooms=packages.found(),
        provenance=provenance.of_source(),
        lease=lease.name,
        checkpoint_every_epochs=execution.checkpoint_every_epochs,
        stall_after=execution.stall_after_seconds,
        time_limit=execution.time_limit_seconds,
        keeps_features=execution.keep_features == "auto",
        keep=suite.keep,
        shape=suite.resources,
    )
    jobs = Jobs(template, ray_cluster.scratch, has_gpus=capacity.has_gpus)
    for shape, runs in shapes.items():
        asked = jobs.asked(shape)
        try:
            capacity.parallel(asked, most, shape.least_workers)
        except RequestError as error:
            raise RequestError(f"{error}; asked for by {runs}") from None
        waiting = capacity.why_waiting(asked, shape.least_workers)
        if waiting:
            view.note(waiting)
    return Foreman(
        suite,
        jobs,
        dispatcher,
        ledger,
        lease,
        view,
        capacity=ray_cluster.capacity,
        most=most,
        began=began or time.monotonic(),
    )


def _close_what_a_dead_driver_left(suite: Suite, ledger: Ledger, plan: Plan) -> None:
    """Rows for the attempts that earlier drivers of this suite opened and never closed."""
    specs = {run.cell.spec.run_id: run.cell.spec for run in plan.runs}
    for run_id, claim in ledger.store.open_claims().items():
        holder = str(claim.get("lease") or f"{suite.name}.0")
        if run_id in specs and holder.rpartition(".")[0] == suite.name:
            error = f"the driver that had started it is gone (lease {holder})"
            ledger.close(specs[run_id], claim, "stopped", error=error)


def _left(plan: Plan) -> int:
    """Wanted runs that have not ended."""
    ended = ("succeeded", "failed")
    return sum(count for status, count in plan.counts().items() if status not in ended)


def _shapes(suite: Suite, plan: Plan) -> dict[Resources, str]:
    """What jobs of the suite ask for, each with the runs that need it, in words.

    Of a protocol the runs that are done count too: the finals that come of them have their shapes.
    """
    runs: dict[Resources, list[RunSpec]] = {}
    for run in plan.runs:
        if run.status == "succeeded" and suite.protocol is None:
            continue
        runs.setdefault(suite.shape(run.cell.spec), []).append(run.cell.spec)
    words = {}
    for shape, specs in runs.items():
        rest = f" and {len(specs) - 1} more runs" if len(specs) > 1 else ""
        words[shape] = f"{label(specs[0])}{rest}"
    return words


def _check_request(shapes: Mapping[Resources, str], address: str | None) -> None:
    """What an embedded Ray could never give is refused before it is started."""
    cores = len(os.sched_getaffinity(0))
    for shape, runs in shapes.items():
        workers = shape.least_workers
        if address is None and shape.cpus * workers > cores:
            several = "" if workers == 1 else f" for each of {workers} workers"
            raise RequestError(
                f"resources.cpus: {shape.cpus} given{several}, allowed: at most the {cores} of this "
                f"machine; asked for by {runs}"
            )


@contextmanager
def _signals(foreman: Foreman) -> Iterator[None]:
    """SIGINT and SIGTERM go to the drive, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        foreman.ending.interrupt(number)

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
