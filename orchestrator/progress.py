"""Progress for people: a live table on a terminal, one line per event elsewhere. All on standard error."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from orchestrator.dispatch import Event
from orchestrator.live import JobNow, Named, Now, label

JOB_COLUMNS = ("job", "run", "epoch", "step", "images/s", "left")


def finished_line(event: Event, spec: Named | None) -> str:
    """One line about a run that ended."""
    text = f"{event.status:<9} {event.run_id} {label(spec)}"
    if event.status == "failed":
        return f"{text}: {event.detail['error']}"
    scored = [
        f"{split} {event.detail[f'{split}_top1']:.3f}"
        for split in ("val", "test")
        if event.detail.get(f"{split}_top1") is not None
    ]
    return f"{text}: {', '.join(scored)} ({event.detail['wall_seconds']:.1f} s)"


class Lines:
    """One line per event, with the seconds since the start; silent when `quiet`."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._began = time.monotonic()
        self._trained: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Say one thing that happened."""
        if not self._quiet:
            self._say(text)

    def event(self, event: Event, spec: Named | None) -> None:
        """Say what a job did; failures are told even when quiet."""
        if event.kind == "finished" and (event.status == "failed" or not self._quiet):
            self._say(f"{event.job}: {finished_line(event, spec)}")
        elif event.kind == "launched":
            self.note(f"{event.job}: ready")
        elif event.kind == "training" and event.job not in self._trained:
            self._trained.add(event.job)
            self.note(f"{event.job}: training its first run, {label(spec)}")

    def update(self, now: Now) -> None:
        """Nothing: every change has had its line."""

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        self._console.print(
            f"[{elapsed:6.1f} s] {text}", markup=False, highlight=False, soft_wrap=True
        )


class LiveTable:
    """A table of the jobs with a bar for the suite below it, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._note = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("runs", total=None, failed="", left="")
        self._live = Live(self._bar, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Show one thing that happened under the table."""
        self._note = text
        self._bar.update(self._task, description=text)

    def event(self, event: Event, spec: Named | None) -> None:
        """Print a finished run above the table."""
        if event.kind == "training":
            self.note("runs")
        if event.kind == "finished":
            self._console.print(
                finished_line(event, spec), markup=False, highlight=False, soft_wrap=True
            )

    def update(self, now: Now) -> None:
        """Redraw."""
        ended = now.succeeded + now.failed
        self._bar.update(
            self._task,
            completed=ended,
            total=ended + now.left,
            failed=f"{now.failed} failed" if now.failed else "",
            left=_left(now.seconds_left),
        )
        self._live.update(Group(_jobs(now), self._bar) if now.jobs else self._bar)


def job_row(job: JobNow) -> tuple[str, ...]:
    """What the table shows of a job, under `JOB_COLUMNS`."""
    rate = "" if job.images_per_second is None else f"{job.images_per_second:.0f}"
    epoch, step = f"{job.epoch}/{job.epochs}", f"{job.step}/{job.steps}"
    return job.job, job.run, epoch, step, rate, _left(job.seconds_left)


def _jobs(now: Now) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in JOB_COLUMNS:
        table.add_column(heading)
    for job in now.jobs:
        table.add_row(*job_row(job))
    return table


def _left(seconds: float | None) -> str:
    """A time in words; nothing where there is none to tell."""
    if not seconds:
        return ""
    if seconds > 5400:
        return f"about {seconds / 3600:.1f} h left"
    return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


def view(console: Console, *, quiet: bool) -> Lines | LiveTable:
    """The table where `console` is a terminal, lines elsewhere or when quiet."""
    if console.is_terminal and not quiet:
        return LiveTable(console)
    return Lines(console, quiet=quiet)
