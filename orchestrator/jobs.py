"""The Ray Train jobs of one drive: each has a thread, since `fit()` blocks."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

from orchestrator.job import JobConfig, loop
from suites.schema import Resources

RESIZE_SECONDS = 20.0
"""Between two looks of Ray Train at whether a job may have more workers."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def _range_of(shape: Resources) -> int | tuple[int, int]:
    """The number of workers, as Ray Train has it."""
    least, most = shape.least_workers, shape.workers
    return most if least == most else (least, most)


class _JobThread(threading.Thread):
    """One job. A daemon: no result depends on the end of `fit()`, every one is committed."""

    def __init__(self, trainer: Any, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._trainer = trainer
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - the driver reports it
            self.error = error


class Jobs:
    """Starts jobs that are alike but for their names and shapes."""

    def __init__(self, template: JobConfig, scratch: Path, *, has_gpus: bool) -> None:
        """`has_gpus` says what `gpus: auto` stands for."""
        self._template, self._scratch, self._has_gpus = template, scratch, has_gpus
        self._threads: dict[str, _JobThread] = {}

    def asked(self, shape: Resources, memory_factor: int = 1) -> dict[str, float]:
        """What each worker of a job of this shape asks Ray for, by Ray's names."""
        return shape.of_worker(has_gpus=self._has_gpus, memory_factor=memory_factor)

    def start(self, name: str, shape: Resources, memory_factor: int = 1) -> None:
        """Start the Ray Train job `name`; it runs once Ray has room for it.

        `memory_factor` multiplies the memory that the suite asks for, where it asks for any.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        job = dataclasses.replace(
            self._template,
            name=name,
            shape=shape,
            threads=shape.cpus,
            gpu_share=shape.gpus_of_worker(has_gpus=self._has_gpus),
        )
        usual = os.environ.get("OMP_NUM_THREADS")
        threads = {} if usual == str(job.threads) else dict.fromkeys(_THREADS, str(job.threads))
        trainer = TorchTrainer(
            loop,
            train_loop_config={"job": job},
            torch_config=TorchConfig(timeout_s=math.ceil(job.stall_after)),
            scaling_config=ScalingConfig(
                num_workers=_range_of(shape),
                elastic_resize_monitor_interval_s=RESIZE_SECONDS,
                use_gpu=job.gpu_share > 0,
                resources_per_worker=self.asked(shape, memory_factor),
            ),
            run_config=RunConfig(
                name=name,
                storage_path=str(self._scratch / "train"),
                # Its count would run over the whole warm job; budgets per run are ours (`retry`).
                failure_config=FailureConfig(max_failures=-1),
                worker_runtime_env={"env_vars": threads} if threads else {},
            ),
        )
        self._threads[name] = _JobThread(trainer, name)
        self._threads[name].start()

    def alive(self) -> set[str]:
        """The jobs whose `fit()` has not returned."""
        return {name for name, thread in self._threads.items() if thread.is_alive()}

    def join(self, seconds: float) -> None:
        """Wait for the jobs to end, so that none of their threads finds Ray gone and ends the driver."""
        deadline = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def started(self) -> set[str]:
        """Every job so far."""
        return set(self._threads)

    def error_of(self, name: str) -> BaseException | None:
        """What a job's `fit()` raised, if it did."""
        return self._threads[name].error

    def release(self, name: str) -> None:
        """Let go of what is left of a job that ended, while Ray is there to hear of it.

        The variables of its calls hold Train's controller, which keeps the job's place as long as
        it lives.
        """
        each = self._threads[name].error
        while each is not None:
            each.__traceback__ = None
            each = each.__cause__ or each.__context__

    def why_ended(self) -> str:
        """The last error of a job that ended, or that there was none."""
        errors = [str(thread.error) for thread in self._threads.values() if thread.error]
        return errors[-1] if errors else "jobs ended one after another without a finished run"
