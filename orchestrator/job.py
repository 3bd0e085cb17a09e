"""The Ray Train job: a worker that pulls runs, trains them and commits them, keeping what is loaded.

torch and timm are imported inside the loop, so importing this module is cheap for the driver.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from orchestrator import failures, packages
from results.record import Attempt
from results.store import Store
from suites.spec import RunSpec

if TYPE_CHECKING:
    from adapters.training.evaluate import Metrics
    from adapters.trial import EpochResult
    from adapters.warm import Warm

WAIT_SECONDS = 0.2
"""Between two questions of a job that has nothing to do."""
REPORT_SECONDS = 0.25
"""Between two progress messages of a run."""


@dataclass(frozen=True)
class JobConfig:
    """What a job is told when it starts. Nothing in it is part of a run's identity."""

    name: str
    dispatcher: Any
    store: str
    threads: int
    gpu_share: float
    """How much of a GPU the job has; 0 on a CPU."""
    rooms: dict[str, str]
    """What the driver's Python finds for the four packages."""
    provenance: dict[str, Any]
    """`git_commit` and `git_dirty` of the program's source, where it is a checkout."""


def loop(config: dict[str, Any]) -> None:
    """Ray Train's `train_loop_per_worker`."""
    job: JobConfig = config["job"]
    if not ray.get(job.dispatcher.launched.remote(job.name)):
        return
    try:
        packages.same_as(job.rooms)
    except packages.PackageError as error:
        # Raising would only make Train start the same process again.
        ray.get(job.dispatcher.broken.remote(job.name, str(error)))
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # weights are fetched before a suite runs, never inside it
    _Worker(job).serve()


class _Worker:
    """One process of a job."""

    def __init__(self, job: JobConfig) -> None:
        import torch
        from ray.train.torch import get_device

        from adapters.warm import Warm
        from results import metrics

        torch.set_num_threads(job.threads)
        self._job = job
        self._store = Store.open(job.store)
        self._warm: Warm = Warm(get_device())
        self._metrics: Metrics = {
            name: module.compute for name, module in metrics.all_metrics().items()
        }
        self._environment = _environment(self._warm, job)

    def serve(self) -> None:
        """Pull, run, commit, until the dispatcher says that there is no more."""
        sequence, loaded = 0, None
        while True:
            answer = ray.get(self._job.dispatcher.next.remote(self._job.name, sequence, loaded))
            if answer == "end":
                return
            if answer == "wait":
                time.sleep(WAIT_SECONDS)
                continue
            spec: RunSpec = answer
            attempt = self._attempt(spec)
            detail = {
                "test_top1": attempt.metrics.get("test/top1"),
                "val_top1": attempt.metrics.get("val/top1"),
                "wall_seconds": attempt.wall_seconds,
                "error": attempt.error,
            }
            ray.get(
                self._job.dispatcher.finished.remote(
                    self._job.name, spec.run_id, attempt.status, detail
                )
            )
            sequence += 1
            loaded = (spec.backbone, spec.dataset)

    def _attempt(self, spec: RunSpec) -> Attempt:
        """Run `spec` and commit what came out, a failure like a success."""
        from adapters.errors import StopRequested
        from adapters.trial import run_trial
        from orchestrator import rows

        started, clock = datetime.now(UTC), time.perf_counter()
        number = self._store.claim(
            spec.run_id,
            {"job": self._job.name, "hostname": socket.gethostname(), "pid": os.getpid()},
        )
        reporter = _Reporter(self._job, spec.run_id)
        outcome: dict[str, Any]
        try:
            result = run_trial(spec.trial(), self._metrics, warm=self._warm, observer=reporter)
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
            outcome = {"status": "succeeded", **rows.of_result(result)}
        attempt = rows.attempt(
            spec,
            number=number,
            started_at=started,
            wall_seconds=time.perf_counter() - clock,
            job=self._job.name,
            **self._environment,
            **outcome,
        )
        self._store.commit(attempt, rows.epochs(spec.run_id, number, reporter.curve))
        return attempt


class _Reporter:
    """Tells the dispatcher how far a run is, without waiting for it, and hears whether to stop."""

    def __init__(self, job: JobConfig, run_id: str) -> None:
        self._job, self._run_id = job, run_id
        self._answer: Any = None
        self._last = 0.0
        self.curve: list[EpochResult] = []

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Called before every step; raises StopRequested once the driver asked for it."""
        from adapters.errors import StopRequested

        if time.monotonic() - self._last < REPORT_SECONDS:
            return
        if self._answer is not None:
            ready, _ = ray.wait([self._answer], timeout=0)
            if not ready:
                return
            if ray.get(self._answer):
                raise StopRequested(f"stopped at epoch {epoch}, step {step} of {steps}")
        self._last = time.monotonic()
        self._answer = self._job.dispatcher.progress.remote(
            self._job.name, self._run_id, epoch, step, steps
        )

    def epoch(self, row: EpochResult) -> None:
        """Keep the row of the learning curve for the commit."""
        self.curve.append(row)


def _environment(warm: Warm, job: JobConfig) -> dict[str, Any]:
    """The columns that are the same for every run of this process."""
    import numpy as np
    import timm
    import torch

    device, is_cuda = warm.device, warm.device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_cuda else _cpu_name()
    share = job.gpu_share if is_cuda else job.threads / (os.cpu_count() or 1)
    return {
        "device": f"{device.type}:{name}",
        "device_share": share,
        # A job has its CPU cores to itself; a share of a GPU it has not.
        "cost_comparable": not is_cuda or share >= 1,
        "threads": job.threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "hostname": socket.gethostname(),
        "versions": {
            "peftgrid": packages.version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "numpy": np.__version__,
            "ray": ray.__version__,
        },
        **job.provenance,
    }


def _cpu_name() -> str:
    """The processor's model name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
