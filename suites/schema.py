"""The fixed parts of a suite file; the axes (methods, datasets, ...) are read in `suites.load`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from adapters.spec import at_least


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
    """What each job asks Ray for."""

    gpus: Literal["auto"] | float = "auto"
    """A share below 1 is allowed; `auto` takes a GPU where the cluster has one, else none."""
    cpus: int = 1
    """Also the threads that torch uses in the job."""

    def __post_init__(self) -> None:
        at_least(1, cpus=self.cpus)
        if self.gpus != "auto":
            at_least(0, gpus=self.gpus)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How runs are spread over jobs."""

    runs_per_job: Literal["unlimited"] | int = "unlimited"
    """1 gives every run a Ray Train job of its own."""
    max_parallel: Literal["auto"] | int = "auto"
    """Jobs at a time; `auto` is as many as fit."""

    def __post_init__(self) -> None:
        if self.runs_per_job != "unlimited":
            at_least(1, runs_per_job=self.runs_per_job)
        if self.max_parallel != "auto":
            at_least(1, max_parallel=self.max_parallel)
