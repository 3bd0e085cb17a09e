"""The Ray Train job: a worker that pulls runs, trains them and commits them, keeping what is loaded.

torch and timm are imported inside the loop, so importing this module is cheap for the driver.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import ray

from orchestrator import failures, packages, provenance
from orchestrator.claims import open_attempt
from orchestrator.dispatch import Process, Work
from orchestrator.kept import Kept
from orchestrator.ledger import log_path
from orchestrator.patience import patiently
from orchestrator.reporter import Following, Notice, Reporter
from results.files import remove_all
from results.process import start_time
from results.record import Attempt, Epoch
from results.store import Latest, Store
from suites.schema import Resources

if TYPE_CHECKING:
    from adapters.checkpoint import CheckpointFolder
    from adapters.training.evaluate import Metrics
    from adapters.training.peers import Peers
    from adapters.warm import Warm
    from suites.schema import Keep

T = TypeVar("T")

WAIT_SECONDS = 0.2
"""Between two questions of a job that has nothing to do."""
PROCESS_ENDS = ("preempted", "worker_lost")
"""Failures after which the process does no more: its machine goes, or its device is beyond use."""
NEVER = 2**62
"""Epochs between checkpoints where only a stop or a notice makes one."""


@dataclass(frozen=True)
class JobConfig:
    """What a job is told when it starts. Nothing in it is part of a run's identity."""

    name: str
    dispatcher: Any
    store: str
    threads: int
    gpu_share: float
    """How much of a GPU each worker has; 0 on a CPU."""
    rooms: dict[str, str]
    """What the driver's Python finds for the four packages."""
    provenance: dict[str, Any]
    """`git_commit` and `git_dirty` of the program's source, where it is a checkout."""
    lease: str
    """Of the driver that started the job: its claims carry it."""
    checkpoint_every_epochs: int | Literal["never"]
    stall_after: float
    """Seconds without progress after which the process ends itself."""
    time_limit: float | None
    """Seconds that one attempt may take."""
    keeps_features: bool
    """Whether runs that train a head alone share the features of their images."""
    keep: Keep
    """What the store keeps of a run beside its rows."""
    shape: Resources
    """What it was started with; it takes runs that ask for the same."""


def loop(config: dict[str, Any]) -> None:
    """Ray Train's `train_loop_per_worker`."""
    job: JobConfig = config["job"]
    here = ray.get_runtime_context()
    among = ray.train.get_context()
    process = Process(
        pid=os.getpid(),
        started=start_time(os.getpid()) or "",
        node=here.get_node_id(),
        hostname=socket.gethostname(),
        actor=here.get_actor_id() or "",
        workers=among.get_world_size(),
    )
    rank = among.get_world_rank()
    begins = rank > 0 or ray.get(job.dispatcher.launched.remote(job.name, process))
    if not begins and job.shape.workers == 1:
        return
    try:
        packages.same_as(job.rooms)
    except packages.PackageError as error:
        # Raising would only make Train start the same process again.
        ray.get(job.dispatcher.broken.remote(job.name, str(error)))
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # weights are fetched before a suite runs, never inside it
    from adapters.training.peers import PeersError

    worker = _Worker(job, process)
    try:
        if rank > 0:
            worker.follow()
        else:
            if begins:
                worker.serve()
            worker.tell()
    except PeersError as error:
        raise RuntimeError(str(error)) from error  # Train starts all workers again


class _Worker:
    """One process of a job."""

    def __init__(self, job: JobConfig, process: Process) -> None:
        import torch
        from ray.train.torch import get_device

        from adapters.training.peers import ALONE, Together
        from adapters.warm import Warm
        from results import metrics

        torch.set_num_threads(job.threads)
        self._notice = notice = Notice()
        several = job.shape.workers > 1
        self._peers: Peers = Together(wish=notice.due, grant=notice.ask) if several else ALONE
        self._job, self._process = job, process
        self._store = Store.open(job.store)
        self._warm: Warm = Warm(get_device())
        self._metrics: Metrics = {
            name: module.compute for name, module in metrics.all_metrics().items()
        }
        self._environment = _environment(self._warm, job) | {"node": process.node}

    def serve(self) -> None:
        """Pull, run, commit, until the dispatcher says that there is no more, or the node goes."""
        sequence, loaded = 0, None
        while True:
            work = ray.get(
                self._job.dispatcher.next.remote(self._job.name, sequence, loaded, self._job.shape)
            )
            if work == "end":
                return
            if work == "wait":
                time.sleep(WAIT_SECONDS)
                continue
            sequence += 1
            if not self._do(work):
                return
            loaded = (work.spec.backbone, work.spec.dataset)

    def follow(self) -> None:
        """Train what the first worker trains, until it says that there is no more."""
        from adapters.trial import run_trial

        while work := self.tell():
            with contextlib.suppress(Exception):  # the first worker has it too, and tells of it
                run_trial(
                    work.spec.trial(),
                    self._metrics,
                    warm=self._warm,
                    observer=Following(),
                    micro_batch=work.micro_batch,
                    peers=self._peers,
                    on_model=lambda *_: None,
                    on_predictions=lambda *_: None,
                )
            self._peers.gather(f"end of {work.spec.run_id}", lambda: None)

    def tell(self, work: Work | None = None) -> Work | None:
        """The first worker's next run for all of them; None: there is no more."""
        return self._peers.broadcast(work)

    def _do(self, work: Work) -> bool:
        """Attempt a run and tell the dispatcher; False where this process should do no more."""
        run_id, dispatcher = work.spec.run_id, self._job.dispatcher
        number = self._open(work)
        if not isinstance(number, int):
            ray.get(dispatcher.elsewhere.remote(self._job.name, run_id, number.claim or {}))
            return True
        self.tell(work)
        attempt, epochs = self._attempt(work, number)
        won = self._commit(attempt, epochs)
        detail = {
            "attempt": attempt.attempt,
            "test_top1": attempt.metrics.get("test/top1"),
            "val_top1": attempt.metrics.get("val/top1"),
            "wall_seconds": attempt.wall_seconds,
            "error": attempt.error,
            "kind": attempt.failure_kind,
        }
        status = attempt.status if won else "superseded"
        told = dispatcher.finished.remote(self._job.name, run_id, status, detail)
        self._peers.gather(f"end of {run_id}", lambda: None)
        if attempt.failure_kind in PROCESS_ENDS:
            ray.get(told)
            return False
        return True  # what is asked next comes after it

    def _attempt(self, work: Work, number: int) -> tuple[Attempt, list[Epoch]]:
        """Run it, and describe what came out, a failure like a success."""
        from adapters.errors import Preempted, StopRequested
        from adapters.trial import run_trial
        from orchestrator import rows

        spec, started, clock = work.spec, datetime.now(UTC), time.perf_counter()
        folder = self._checkpoints(work, number)
        kept = Kept(self._job.keep, self._store, spec, number, self._patiently)
        log = log_path(self._store, spec.run_id, number)
        reporter = Reporter(self._job, spec.run_id, log, self._notice)
        outcome: dict[str, Any] = {"status": "failed"}
        try:
            result = run_trial(
                spec.trial(),
                self._metrics,
                warm=self._warm,
                observer=reporter,
                keeper=folder,
                micro_batch=work.micro_batch,
                peers=self._peers,
                keeps_features=self._job.keeps_features,
                on_model=kept.model,
                on_predictions=kept.predictions,
            )
        except Preempted as error:
            outcome = {"status": "failed", "failure_kind": "preempted", "error": str(error)}
        except StopRequested:
            outcome = {"status": "stopped"}
        except Exception as error:  # noqa: BLE001 - a failed run is a row; the suite goes on
            message, evidence = failures.describe(error)
            outcome = {
                "status": "failed",
                "failure_kind": failures.classify(error),
                "error": message,
                "evidence": evidence,
            }
        else:
            outcome = {"status": "succeeded", **rows.of_result(result), **kept.columns}
            reporter.curve = list(result.epochs)  # with what an attempt before this one trained
        finally:
            reporter.close(folder.reasons, succeeded=outcome["status"] == "succeeded")
        attempt = rows.attempt(
            spec,
            number=number,
            started_at=started,
            wall_seconds=time.perf_counter() - clock,
            job=self._job.name,
            **{"adapted": work.micro_batch is not None or self._job.shape.workers > 1 or None}
            | self._environment
            | outcome,
        )
        return attempt, rows.epochs(spec.run_id, number, reporter.curve)

    def _open(self, work: Work) -> int | Latest:
        """Open the run's next attempt, as soon as the storage takes it."""
        info = {
            "job": self._job.name,
            "hostname": self._process.hostname,
            "pid": self._process.pid,
            "node": self._process.node,
            "actor": self._process.actor,
            "workers": self._process.workers,
            "lease": self._job.lease,
            "reason": work.reason,
        }
        return self._patiently(lambda: open_attempt(self._store, work.spec.run_id, info))

    def _checkpoints(self, work: Work, number: int) -> CheckpointFolder:
        """Where the run's resumable state is."""
        from adapters.checkpoint import CheckpointFolder

        every = self._job.checkpoint_every_epochs
        folder = CheckpointFolder(
            self._store.path / "checkpoints" / work.spec.run_id,
            spec_hash=work.spec.run_id,
            semantics=work.spec.science["semantics"],
            attempt=number,
            every_epochs=NEVER if every == "never" else every,
        )
        if work.restart:
            folder.clear()
        return folder

    def _commit(self, attempt: Attempt, epochs: list[Epoch]) -> bool:
        """Close the attempt, as soon as the storage takes it. False: it was closed before."""
        won = self._patiently(lambda: self._store.commit(attempt, epochs))
        if attempt.status == "succeeded":
            remove_all(self._store.path / "checkpoints" / attempt.run_id)
        return won

    def _patiently(self, write: Callable[[], T]) -> T:
        """Try until the storage takes it; waiting is no stall."""
        dispatcher, name = self._job.dispatcher, self._job.name
        return patiently(write, lambda text: dispatcher.waiting.remote(name, text))


def _environment(warm: Warm, job: JobConfig) -> dict[str, Any]:
    """The columns that are the same for every run of this process."""
    import torch

    device, is_cuda = warm.device, warm.device.type == "cuda"
    share = job.gpu_share if is_cuda else job.threads / (os.cpu_count() or 1)
    return {
        "device": provenance.of_device(device),
        "device_share": share,
        # A job has its CPU cores to itself; a share of a GPU it has not. Of several workers the
        # first one alone is measured.
        "cost_comparable": (not is_cuda or share >= 1) and job.shape.workers == 1,
        "threads": job.threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "hostname": socket.gethostname(),
        "versions": {**provenance.of_packages(), "ray": ray.__version__},
        **job.provenance,
    }
