"""How many jobs a cluster has room for, on the nodes that it has and on those that it may get."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

Resources = Mapping[str, float]
"""By Ray's names: CPU, GPU, memory (bytes)."""


class RequestError(ValueError):
    """A job asks for more than there is."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The nodes of a cluster."""

    nodes: tuple[Resources, ...]
    """What each living node has, busy or not."""
    declared: tuple[tuple[Resources, float], ...] = ()
    """The kinds of nodes that it may have, each with the most of them (infinity: no limit)."""
    grows: bool = False
    """Whether an autoscaler adds nodes, of declared kinds or of kinds that nobody can ask for."""

    @property
    def has_gpus(self) -> bool:
        """Whether any node has a GPU, or may have one."""
        every = (*self.nodes, *(kind for kind, _ in self.declared))
        return any(node.get("GPU", 0) > 0 for node in every)

    def now(self, job: Resources, workers: int = 1) -> int:
        """How many jobs of so many workers, each of which takes `job`, the living nodes take at once."""
        return sum(fitting(job, node) for node in self.nodes) // workers

    def workers_now(self, worker: Resources, least: int, most: int) -> int:
        """How many workers a job of `least` to `most` gets on the living nodes, if it has them all."""
        places = sum(fitting(worker, node) for node in self.nodes)
        return max(least, min(most, places))

    def parallel(self, job: Resources, most: int | None, workers: int = 1) -> int:
        """How many such jobs to run at once, at most `most`; workers of one may be on several nodes.

        Raises RequestError where no node can ever take even one. A cluster whose limits are not
        known, or have no end, is filled as it is; `most` lets it grow further.
        """
        now = self.now(job, workers)
        kinds = [count * places for kind, count in self.declared if (places := fitting(job, kind))]
        ever = max(now, sum(kinds) if math.inf in kinds else sum(kinds) // workers)
        if ever == 0 and not self.is_unknown:
            several = "" if workers == 1 else f" on {workers} workers"
            raise RequestError(
                f"resources: {_words(job, job)} given for a job{several}, allowed: at most "
                f"{self._each(job)} (what one node has)"
            )
        if most is not None:
            return most if self.is_unknown else int(min(most, ever))
        return max(now, 1) if self.is_unknown or math.isinf(ever) else int(ever)

    def why_waiting(self, job: Resources, workers: int = 1) -> str | None:
        """What to tell while no living node can take a job; None where one can."""
        if self.now(job, workers):
            return None
        ahead = (
            "how far it grows is not known" if self.is_unknown else "it may grow to one that has"
        )
        nodes = "no node of the cluster has" if workers == 1 else f"no {workers} workers find"
        return f"{nodes} {_words(job, job)}, {ahead}: waiting for it (a signal ends the wait)"

    @property
    def is_endless(self) -> bool:
        """Whether nobody can tell how many jobs it takes at most."""
        return self.is_unknown or any(math.isinf(count) for _, count in self.declared)

    @property
    def is_unknown(self) -> bool:
        """Whether it grows by kinds of nodes that nobody can ask for."""
        return self.grows and not self.declared

    def _each(self, job: Resources) -> str:
        kinds = (*self.nodes, *(kind for kind, count in self.declared if count))
        return (
            " or ".join(sorted({_words(node, job) for node in kinds})) or "nothing: no node lives"
        )


def here() -> Capacity:
    """An embedded Ray on this machine, without starting one: its cores, and NVIDIA's devices."""
    gpus = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    return Capacity(nodes=({"CPU": float(len(os.sched_getaffinity(0))), "GPU": float(gpus)},))


def fitting(job: Resources, node: Resources) -> int:
    """How many times `job` goes into an empty node."""
    return min(math.floor(node.get(name, 0) / need) for name, need in job.items() if need > 0)


def _words(resources: Resources, named: Iterable[str]) -> str:
    """The amounts of the resources that are `named`."""
    units = {"CPU": "{:g} CPUs", "GPU": "{:g} GPUs", "memory": "{:,.0f} bytes of memory"}
    names = {*named, "CPU", "GPU"}
    return ", ".join(units[n].format(resources.get(n, 0)) for n in units if n in names)
