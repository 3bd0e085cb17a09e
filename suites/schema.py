"""The fixed parts of a suite file; the axes (methods, datasets, ...) are read in `suites.load`."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal

from adapters.spec import at_least
from suites import units

Budget = Literal["unlimited"] | int
"""How often a run is tried again after one kind of failure."""
MIN_MEMORY = 2**20
"""Bytes; less than this is a number whose unit was forgotten."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a suite is called and what it asks."""

    schema: Literal[1]
    """The version of this format."""
    suite: str
    question: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_-]+", self.suite):
            raise ValueError(
                f"suite: {self.suite!r} given, allowed: lower-case letters, digits, _ and -"
            )


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each job asks Ray for; never part of a run's identity."""

    gpus: Literal["auto"] | float = "auto"
    """Of the whole job: one for each worker, or for a single worker a share below 1. `auto` takes a GPU for
    each worker where the cluster has any, else none."""
    cpus: int = 1
    """Of each worker, also the threads that torch uses in it."""
    memory: int | str | None = None
    """Host memory of each worker, in bytes or as `4GiB` or `4GB`; None asks for no amount."""
    workers: int = 1
    """Processes that share every batch of a run (data parallel)."""
    min_workers: int | None = None
    """A job is content with so many where `workers` find no place, and has more of them, up to `workers`,
    as nodes join; None is `workers`."""

    @property
    def least_workers(self) -> int:
        """With how many workers a job can be started."""
        return self.workers if self.min_workers is None else self.min_workers

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else units.byte_count("memory", self.memory)

    def __post_init__(self) -> None:
        at_least(1, cpus=self.cpus, workers=self.workers, min_workers=self.least_workers)
        if self.least_workers > self.workers:
            raise ValueError(
                f"min_workers: {self.min_workers} given, allowed: 1 to {self.workers} (workers)"
            )
        if self.memory_bytes is not None and self.memory_bytes < MIN_MEMORY:
            raise ValueError(
                f"memory: {self.memory!r} given, allowed: at least 1MiB, in bytes or as 4GiB"
            )
        if self.gpus != "auto":
            at_least(0, gpus=self.gpus)
            allowed = (0, self.workers)
            if self.gpus not in allowed and not (self.workers == 1 and self.gpus < 1):
                share = " or a share below 1" if self.workers == 1 else ""
                raise ValueError(
                    f"gpus: {self.gpus:g} given, allowed with workers: {self.workers}: auto, 0, "
                    f"{self.workers}{share} (a worker uses one GPU, which no other job may share "
                    "where there are several)"
                )

    def of_worker(self, *, has_gpus: bool, memory_factor: int = 1) -> dict[str, float]:
        """What each worker asks Ray for, by Ray's names."""
        asked = {"CPU": float(self.cpus), "GPU": self.gpus_of_worker(has_gpus=has_gpus)}
        if self.memory_bytes is not None:
            asked["memory"] = float(self.memory_bytes * memory_factor)
        return {name: amount for name, amount in asked.items() if amount}

    def gpus_of_worker(self, *, has_gpus: bool) -> float:
        """How much of a GPU each worker gets on a cluster that has some, or none."""
        return float(has_gpus) if self.gpus == "auto" else self.gpus / self.workers


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How runs are spread over jobs, and what each is held to."""

    runs_per_job: Literal["unlimited"] | int = "unlimited"
    """1 gives every run a Ray Train job of its own."""
    max_parallel: Literal["auto"] | int = "auto"
    """Jobs at a time; `auto` is as many as fit."""
    time_limit: float | str | None = None
    """Of one attempt: seconds, or a duration as `30m` or `1h30m`; None sets no limit."""
    stall_after: float | str = "5m"
    """An attempt that makes no progress for so long is stopped; seconds or a duration."""
    checkpoint_every_epochs: Literal["never"] | int = 1
    micro_batch: int | None = None
    """Images that go through the model at once, at most: gradients of a batch are accumulated over its
    parts, and the batch of the recipe stays what it is. None is the whole batch."""
    keep_features: Literal["auto", "never"] = "never"
    """`auto` computes the frozen backbone's features once for all runs that train nothing but a head and
    see every image as it is; their results agree to float32's last digits."""

    @property
    def time_limit_seconds(self) -> float | None:
        """`time_limit` in seconds."""
        return None if self.time_limit is None else units.seconds("time_limit", self.time_limit)

    @property
    def stall_after_seconds(self) -> float:
        """`stall_after` in seconds."""
        return units.seconds("stall_after", self.stall_after)

    def __post_init__(self) -> None:
        if self.checkpoint_every_epochs != "never":
            at_least(1, checkpoint_every_epochs=self.checkpoint_every_epochs)
        for name, seconds in (
            ("time_limit", self.time_limit_seconds),
            ("stall_after", self.stall_after_seconds),
        ):
            if seconds is not None and seconds < 1:
                given = getattr(self, name)
                raise ValueError(f"{name}: {given!r} given, allowed: at least one second")
        if self.runs_per_job != "unlimited":
            at_least(1, runs_per_job=self.runs_per_job)
        if self.max_parallel != "auto":
            at_least(1, max_parallel=self.max_parallel)
        if self.micro_batch is not None:
            at_least(1, micro_batch=self.micro_batch)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a run is tried again, by what ended its attempt; `orchestrator.retry` has the rules.

    The counts begin anew with every `run` and `resume`. What is not named here (non-finite loss, wrong
    data, errors in the settings) is never tried again: the same run would fail in the same way.
    """

    preempted: Budget = "unlimited"
    """The cluster took the node away, with notice."""
    worker_lost: Budget = 3
    """The process died; counted since the last new checkpoint."""
    launch: Budget = 3
    """The process died before the run's first step; counted since the last new checkpoint."""
    stalled: Budget = 2
    timeout: Budget = 0
    """An attempt that needs more time than `execution.time_limit` usually needs it again."""
    out_of_memory: Budget = 2
    """Of the device: each time with half the micro-batch, so 2 go from 64 images to 16. Of the host: once
    at most, with twice the memory. Both draw from this one budget."""
    storage: Budget = 5
    unknown: Budget = 0
    """Usually an error in a method or data set, which comes again."""

    def __post_init__(self) -> None:
        budgets = {item.name: getattr(self, item.name) for item in fields(self)}
        at_least(0, **{name: n for name, n in budgets.items() if n != "unlimited"})


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What the store keeps of a run beside its rows: the suite's `store`."""

    models: Literal["final", "all", "none"] = "final"
    """`final`: what was trained, with the scored epoch's weights, of every run that is not a tuning cell,
    where it takes up to 16 MB; `all`: of every run and of any size."""
    predictions: Literal["small", "all", "none"] = "small"
    """`small`: the scored epoch's float16 logits of the test set, of every run that scores one, where they
    take up to 4 MB (images x classes x 2 bytes); `all`: of any size."""
