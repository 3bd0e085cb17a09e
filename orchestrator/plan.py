"""What a suite asks for, compared with what the store holds: done, to do, failed before."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from results import metrics
from results.selection import CandidateScores, SelectionError, select
from results.store import RunState, Store
from suites.spec import RunSpec
from suites.suite import Cell, Group, Suite

QUEUED, MISSING, WAITING = "queued", "missing", "waiting"
UNFINISHED = (QUEUED, "stopped", MISSING)
"""Statuses of runs that nothing but another start can end."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which runs of a suite to start. Those that succeeded are never started again."""

    unfinished: bool = True
    """Runs that were never begun, or stopped."""
    failed: bool = False
    kinds: frozenset[str] | None = None
    """Of the failed runs only those of these kinds; None: all."""

    def takes(self, run: PlannedRun) -> bool:
        """Whether `run` is to be started."""
        if run.status == "failed":
            return self.failed and (self.kinds is None or run.failure_kind in self.kinds)
        return self.unfinished and run.status in (QUEUED, "stopped")


UNFINISHED_RUNS = Wanted()


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One cell and where it stands."""

    cell: Cell
    status: str
    """succeeded, failed, stopped (from the store), queued (to do) or missing (its data is absent)."""
    reason: str
    failure_kind: str | None = None

    @property
    def trainable_params(self) -> int:
        """How many elements it trains, head included."""
        return self.cell.place.trainable_params

    @property
    def count_is_exact(self) -> bool:
        """False where the weights decide and `trainable_params` is an upper bound."""
        return self.cell.place.count_is_exact


@dataclass(frozen=True)
class WaitingFinals:
    """Final cells whose settings are not chosen yet."""

    group: Group
    reason: str


@dataclass(frozen=True)
class Plan:
    """A suite against a store."""

    runs: tuple[PlannedRun, ...]
    waiting: tuple[WaitingFinals, ...]
    absent: dict[str, str]
    """What is not on this machine (`backbone x`, `data set y`) -> the command that gets it."""

    def counts(self) -> dict[str, int]:
        """How many runs have each status; final runs that wait for a selection are `waiting`."""
        counts = Counter(run.status for run in self.runs)
        counts[WAITING] += sum(item.group.final_count for item in self.waiting)
        return {status: count for status, count in counts.items() if count}

    def to_do(self, wanted: Wanted) -> list[PlannedRun]:
        """The runs to start."""
        return [run for run in self.runs if wanted.takes(run)]


def make_plan(suite: Suite, store: Store | None) -> Plan:
    """Expand `suite` and look each cell up; without a store nothing is known to be done."""
    states = _with_retries(store) if store else {}
    absent = _Absent()
    chosen, waiting = finals(suite, store)
    cells: Iterable[Cell] = suite.cells()
    if chosen:  # one of them may be a tuning cell too; those of a suite alone come once each
        cells = {each.spec.run_id: each for each in chain(cells, chosen)}.values()
    runs = tuple(_planned(cell, states, absent) for cell in cells)
    return Plan(runs, tuple(waiting), absent.commands)


def _with_retries(store: Store) -> dict[str, RunState]:
    """The states of all runs; one whose retry was decided and never begun counts as stopped."""
    states = store.states()
    for (run_id, attempt), decision in store.decisions().items():
        state = states.get(run_id)
        if state and (state.status, state.attempt) == ("failed", attempt) and decision["again"]:
            states[run_id] = dataclasses.replace(state, status="stopped")
    return states


def finals(suite: Suite, store: Store | None) -> tuple[list[Cell], list[WaitingFinals]]:
    """The final cells whose selection the store can make, and the groups that still wait."""
    groups = suite.groups()
    if suite.protocol is None:
        return [], []
    metric = suite.protocol.select.metric
    scores = _scores(store, {run for g in groups for c in g.candidates for run in c.run_ids})
    chosen: list[Cell] = []
    waiting: list[WaitingFinals] = []
    for group in groups:
        try:
            winner = _select(group, scores, metric)
        except SelectionError as error:
            waiting.append(WaitingFinals(group, str(error)))
        else:
            chosen += group.finals(winner)
    return chosen, waiting


def _select(group: Group, scores: Mapping[str, Mapping[str, float]], metric: str) -> Any:
    """The winning candidate, once every candidate's every seed has ended."""
    unfinished = [run for c in group.candidates for run in c.run_ids if run not in scores]
    if unfinished:
        raise SelectionError(f"{len(unfinished)} tuning runs have not ended")
    selection = select(
        [
            CandidateScores(
                config_id=candidate.config_id,
                order=order,
                trainable_params=candidate.trainable_params,
                scores={i: scores[run].get(metric) for i, run in enumerate(candidate.run_ids)},
            )
            for order, candidate in enumerate(group.candidates)
        ],
        higher_is_better=_higher_is_better(metric),
    )
    return next(c for c in group.candidates if c.config_id == selection.winner)


def _higher_is_better(metric: str) -> bool:
    """Of a key `val/name`; ValueError names the metrics that exist. The loss is no metric file."""
    name = metric.partition("/")[2]
    return False if name == "loss" else metrics.load(name).HIGHER_IS_BETTER


def _scores(store: Store | None, wanted: set[str]) -> dict[str, dict[str, float]]:
    """run_id -> metrics of every wanted run that ended for good; a failed one has no metrics."""
    if store is None:
        return {}
    table = store.runs().select(["run_id", "status", "metrics"]).to_pylist()
    return {
        row["run_id"]: dict(row["metrics"] or ()) if row["status"] == "succeeded" else {}
        for row in table
        if row["run_id"] in wanted and row["status"] in ("succeeded", "failed")
    }


class _Absent:
    """Asks once per name whether a backbone or data set is on this machine."""

    def __init__(self) -> None:
        self._asked: dict[str, str | None] = {}
        self._lacking: dict[tuple[str, str, str | None], str | None] = {}
        self.commands: dict[str, str] = {}

    def of(self, spec: RunSpec) -> str | None:
        """The first thing that `spec` needs and this machine lacks."""
        head = spec.seedless["train"].get("text_head")
        key = spec.backbone, spec.dataset, head and head["file"]
        if key not in self._lacking:
            self._lacking[key] = self._first(*key)
        return self._lacking[key]

    def _first(self, backbone: str, dataset: str, head: str | None) -> str | None:
        from adapters import backbones, registry, text_embeddings

        needed: list[tuple[str, Callable[[], str | None]]] = [
            (f"backbone {backbone}", lambda: backbones.missing(backbone)),
            (f"data set {dataset}", lambda: registry.dataset(dataset).missing()),
        ]
        if head is not None:
            needed.append((f"text head {head}", lambda: text_embeddings.missing(head)))
        for what, ask in needed:
            if what not in self._asked:
                self._asked[what] = ask()
            command = self._asked[what]
            if command is not None:
                self.commands[what] = command
                return f"{what} is not on this machine; get it with: {command}"
        return None


def _planned(cell: Cell, states: Mapping[str, RunState], absent: _Absent) -> PlannedRun:
    state = states.get(cell.spec.run_id)
    status, reason = _standing(cell, state, absent)
    kind = state.failure_kind if state is not None and status == "failed" else None
    return PlannedRun(cell, status, reason, kind)


def _standing(cell: Cell, state: RunState | None, absent: _Absent) -> tuple[str, str]:
    """The status of a cell, and why."""
    if state is not None and state.status == "succeeded":
        return "succeeded", f"attempt {state.attempt} succeeded"
    lacking = absent.of(cell.spec)
    if lacking is not None:
        return MISSING, lacking
    if state is None:
        return QUEUED, "no attempt in the store"
    if state.status == "failed":
        return "failed", f"attempt {state.attempt} failed ({state.failure_kind}): {state.error}"
    return state.status, f"attempt {state.attempt} was {state.status}"
