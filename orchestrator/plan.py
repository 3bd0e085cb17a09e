"""What a suite asks for, compared with what the store holds: done, to do, failed before."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from results import metrics
from results.selection import CandidateScores, SelectionError, select
from results.store import RunState, Store
from suites.spec import RunSpec, count_is_exact, trainable_params
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


@dataclass(frozen=True)
class PlannedRun:
    """One cell and where it stands."""

    cell: Cell
    status: str
    """succeeded, failed, stopped (from the store), queued (to do) or missing (its data is absent)."""
    reason: str
    trainable_params: int
    count_is_exact: bool
    """False where the weights decide and `trainable_params` is an upper bound."""
    failure_kind: str | None = None


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
    cells = list(suite.cells())
    chosen, waiting = finals(suite, store)
    counted = _Counter()
    runs = tuple(
        _planned(cell, states, absent, counted(cell.spec))
        for cell in {each.spec.run_id: each for each in cells + chosen}.values()
    )
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
        self._known: dict[tuple[str, str], str | None] = {}
        self.commands: dict[str, str] = {}

    def of(self, spec: RunSpec) -> str | None:
        """The first thing that `spec` needs and this machine lacks."""
        from adapters import backbones, registry

        asked: Iterable[tuple[str, str, Callable[[], str | None]]] = (
            ("backbone", spec.backbone, lambda: backbones.missing(spec.backbone)),
            ("data set", spec.dataset, lambda: registry.dataset(spec.dataset).missing()),
        )
        for kind, name, ask in asked:
            if (kind, name) not in self._known:
                self._known[kind, name] = ask()
            command = self._known[kind, name]
            if command is not None:
                self.commands[f"{kind} {name}"] = command
                return f"{kind} {name} is not on this machine; get it with: {command}"
        return None


class _Counter:
    """Trainable parameters per configuration, counted once for all seeds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, bool]] = {}

    def __call__(self, spec: RunSpec) -> tuple[int, bool]:
        """The number, and whether it is exact."""
        if spec.config_id not in self._known:
            trial = spec.trial()
            self._known[spec.config_id] = (trainable_params(trial), count_is_exact(trial))
        return self._known[spec.config_id]


def _planned(
    cell: Cell, states: Mapping[str, RunState], absent: _Absent, counted: tuple[int, bool]
) -> PlannedRun:
    state = states.get(cell.spec.run_id)
    status, reason = _standing(cell, state, absent)
    kind = state.failure_kind if state is not None and status == "failed" else None
    return PlannedRun(cell, status, reason, *counted, failure_kind=kind)


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
