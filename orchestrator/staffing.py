"""Which jobs to start, where runs differ in what they need: a pure function of what there is.

A shape is what a job of some runs asks for. Shapes without any job come first, the largest of them
before all others; where one finds no place now, it is kept for it, so that smaller jobs cannot
starve it. Then places go to the shape that has most runs left for each of its jobs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.capacity import Capacity, Resources, fitting

Shape = TypeVar("Shape", bound=Hashable)

_MOST_NODES = 1000
"""Of one declared kind that are looked at."""
_EPSILON = 1e-6
"""Shares of a GPU do not add up exactly."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one shape asks for at a moment."""

    worker: Resources
    """For each worker, by Ray's names."""
    workers: int = 1
    jobs: int = 0
    """Jobs that hold places."""
    wanted: int = 0
    """Jobs more that would find a run to do."""

    @property
    def size(self) -> tuple[float, float, float]:
        """By which shapes are compared: GPUs, CPUs and memory of a job."""
        names = ("GPU", "CPU", "memory")
        gpus, cpus, memory = (self.workers * self.worker.get(name, 0.0) for name in names)
        return gpus, cpus, memory


def to_start(
    capacity: Capacity, demands: Mapping[Shape, Demand], most: int | None = None
) -> list[Shape]:
    """The shapes of the jobs to start now, in order; at most `most` jobs live at once.

    Where a cluster has no end, or none that is known, it is filled as it is, and up to `most` where
    that is given.
    """
    room = _Room(capacity, demands)
    held = {shape: demand.jobs for shape, demand in demands.items()}
    wanted = {shape: demand.wanted for shape, demand in demands.items() if demand.wanted > 0}
    by_size = sorted(demands, key=lambda shape: demands[shape].size, reverse=True)
    for shape in by_size:
        for _ in range(held[shape]):
            room.put(demands[shape])
    started: list[Shape] = []

    def start(shape: Shape) -> None:
        room.put(demands[shape])
        started.append(shape)
        held[shape] += 1
        wanted[shape] -= 1

    left = float("inf") if most is None else most - sum(held.values())
    grows = capacity.is_endless and most is not None
    for shape in by_size:
        if shape not in wanted or held[shape] or len(started) >= left:
            continue
        demand = demands[shape]
        # What no living node can take at all waits for one that can.
        if grows or room.takes(demand) or capacity.now(demand.worker, demand.workers) == 0:
            start(shape)
        else:
            room.put(demand)  # kept free for it
            del wanted[shape]
    while len(started) < left:
        open_to = [s for s in by_size if wanted.get(s) and (grows or room.takes(demands[s]))]
        if not open_to:
            break
        start(max(open_to, key=lambda shape: wanted[shape] / (held[shape] + 1)))
    return started


class _Room:
    """The free places of a cluster, as they are if jobs were packed closely."""

    def __init__(self, capacity: Capacity, demands: Mapping[Shape, Demand]) -> None:
        ever: list[Resources] = []
        if not capacity.is_endless:
            for kind, count in capacity.declared:
                ever += [kind] * min(int(count), _MOST_NODES)
        both = (list(capacity.nodes), ever)
        self._nodes = max(both, key=lambda nodes: sum(_places(nodes, d) for d in demands.values()))
        self._free = [dict(node) for node in self._nodes]

    def takes(self, demand: Demand) -> bool:
        """Whether all workers of such a job find a place."""
        before = [dict(node) for node in self._free]
        found = all(self._place(demand.worker) for _ in range(demand.workers))
        self._free = before
        return found

    def put(self, demand: Demand) -> None:
        """Take the places of a job; where there are none, of nodes that could have them."""
        for _ in range(demand.workers):
            if not self._place(demand.worker):
                fit = [i for i, node in enumerate(self._nodes) if fitting(demand.worker, node)]
                if fit:
                    first = next(iter(sorted(demand.worker, reverse=True)))
                    self._take(max(fit, key=lambda i: self._free[i].get(first, 0)), demand.worker)

    def _place(self, worker: Resources) -> bool:
        fit = [
            i
            for i, free in enumerate(self._free)
            if all(free.get(name, 0) + _EPSILON >= need for name, need in worker.items())
        ]
        if not fit:
            return False

        def left(i: int) -> tuple[float, float]:
            free = self._free[i]
            return free.get("GPU", 0) - worker.get("GPU", 0), free.get("CPU", 0)

        self._take(min(fit, key=left), worker)
        return True

    def _take(self, index: int, worker: Resources) -> None:
        free = self._free[index]
        for name, need in worker.items():
            free[name] = free.get(name, 0) - need


def _places(nodes: list[Resources], demand: Demand) -> int:
    return sum(fitting(demand.worker, node) for node in nodes) // demand.workers
