"""What a run tells while it trains, and what it hears: stop, preemption, its time limit, a stall."""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ray

from orchestrator.failures import TimeLimitError
from orchestrator.ledger import local_log
from results.place import Place

if TYPE_CHECKING:
    from adapters.trial import EpochResult
    from orchestrator.job import JobConfig

REPORT_SECONDS = 0.25
"""Between two progress messages of a run."""
KEEP_SECONDS = 10.0
"""Between two copies of a log to a bucket."""
PREEMPTION_SECONDS = 1.0
"""Between two questions whether the node is about to go."""


class Notice:
    """Whether a node of the job is about to go."""

    def __init__(self) -> None:
        self.given = False
        self._asked = 0.0

    def due(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked > PREEMPTION_SECONDS

    def ask(self) -> None:
        """Ask; of several workers all have to, at the same place."""
        self._asked = time.monotonic()
        self.given = ray.train.get_preemption_info() is not None


class Following:
    """The observer of a run in every worker but the first, which is told nothing and tells nobody."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Nothing."""

    def epoch(self, row: EpochResult) -> None:
        """Nothing."""


class Reporter:
    """The observer of one run. Every call is progress: without any for `stall_after` the process ends.

    A line for each row of its curve goes to `log`, and so do its dump of all threads and Python's at a
    crash. The log of a run that succeeded is removed where there is nothing else in it.
    """

    def __init__(self, job: JobConfig, run_id: str, log: Place, notice: Notice) -> None:
        self._job, self._run_id, self._notice = job, run_id, notice
        self._answer: Any = None
        self._told = self._armed = 0.0
        self._began = time.monotonic()
        self._log, self._local = log, local_log(log)
        self._file, self._kept = _open(self._local), time.monotonic()
        self.curve: list[EpochResult] = []
        self._rate: float | None = None
        faulthandler.enable(self._file)
        self._alive()

    def close(self, notes: Iterable[str], *, succeeded: bool) -> None:
        """The run has ended: nothing is watched any more; `notes` are kept in the log."""
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        notes = list(notes)
        self._file.writelines(f"{note}\n" for note in notes)
        self._file.close()
        if not succeeded or notes:
            self._keep()
        if self._local != self._log or (succeeded and not notes):
            self._local.unlink()

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Called before every step; raises what ends the run."""
        from adapters.errors import Preempted, StopRequested

        self._alive()
        now = time.monotonic()
        limit = self._job.time_limit
        if limit is not None and now - self._began > limit:
            raise TimeLimitError(
                f"{now - self._began:.0f} s at epoch {epoch}, step {step} of {steps}; allowed: "
                f"{limit:g} s (execution.time_limit)"
            )
        if self._job.shape.workers == 1 and self._notice.due():
            self._notice.ask()
        if self._notice.given:
            raise Preempted(f"the node is about to go, at epoch {epoch}, step {step} of {steps}")
        if now - self._told > REPORT_SECONDS and self._heard_stop(epoch, step, steps):
            raise StopRequested(f"stopped at epoch {epoch}, step {step} of {steps}")

    def epoch(self, row: EpochResult) -> None:
        """Keep the row of the learning curve for the commit."""
        self._alive()
        self.curve.append(row)
        if row.split == "train":
            self._rate = row.images_per_second
        self._file.write(
            f"epoch {row.epoch} {row.split}: loss {row.loss:.4f}, top1 {row.top1:.4f}, "
            f"{row.images_per_second:.0f} images/s\n"
        )
        self._file.flush()
        if time.monotonic() - self._kept > KEEP_SECONDS:
            self._keep()

    def _keep(self) -> None:
        """Copy the log to the store, where it is not written there."""
        self._kept = time.monotonic()
        if self._local != self._log:
            with contextlib.suppress(OSError):  # it is no result, and the next copy has all of it
                self._log.write_bytes(self._local.read_bytes())

    def _heard_stop(self, epoch: int, step: int, steps: int) -> bool:
        """Tell how far the run is, without waiting, and take the answer to the last time."""
        stop = False
        if self._answer is not None:
            ready, _ = ray.wait([self._answer], timeout=0)
            if not ready:
                return False
            # A dead dispatcher is started again; the next message tells it where this run is.
            with contextlib.suppress(ray.exceptions.RayActorError):
                stop = bool(ray.get(self._answer))
        self._told = time.monotonic()
        self._answer = self._job.dispatcher.progress.remote(
            self._job.name, self._run_id, epoch, step, steps, self._rate
        )
        return stop

    def _alive(self) -> None:
        """Begin to count anew towards a stall; seldom, since each time a thread is started."""
        if time.monotonic() - self._armed > REPORT_SECONDS:
            self._armed = time.monotonic()
            faulthandler.dump_traceback_later(self._job.stall_after, exit=True, file=self._file)


def _open(log: Path) -> IO[str]:
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("w")
