"""What a report shows, read from the store: the suite, its plan, its leaderboard and every run.

Nothing here knows of HTML, Markdown or LaTeX. All numbers of the leaderboard are `results.table`'s.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results import metrics, scores, standing, views
from results.errors import TableError
from results.record import PlanRow
from results.report._suite_text import description, question
from results.store import Store
from results.table import Leaderboard, board

COSTS = (
    *("trainable_params", "adapter_params", "head_params", "total_params", "trainable_percent"),
    *("active_params", "active_subspaces", "train_seconds", "epoch_seconds", "eval_seconds"),
    *("wall_seconds", "queue_seconds", "images_per_second", "peak_memory_bytes", "model_bytes"),
)
"""Columns of `runs` that are shown under costs."""
ENVIRONMENT = (
    *("device", "device_share", "threads", "cpu_capability", "precision", "hostname"),
    *("versions", "git_commit", "git_dirty"),
)
"""Where an attempt ran and with which code."""
_ENDING = (
    *("attempt", "status", "failure_kind", "error", "evidence", "adapted", "resumed_from_epoch"),
    *("job", "node", "log_path", "started_at", "ended_at", "wall_seconds"),
)
_RUN = (
    *("config_id", "variant_id", "weights_digest", "data_digest", "select_epoch", "best_epoch"),
    "cost_comparable",
)

Curve = Mapping[str, Sequence[tuple[int, float | None, float | None]]]
"""By split: epoch, loss and accuracy, in the order of the epochs."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a run."""

    ending: Mapping[str, Any]
    """The columns that say how it went; see `schema.ATTEMPTS`."""
    environment: Mapping[str, Any]
    decision: str | None
    """Why it was, or was not, tried again."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One planned run."""

    cell: PlanRow
    status: str
    label: str
    """The leaderboard's name of its row; the variant where it is in none."""
    score: float | None
    """Of the report's metric; None unless the run succeeded and has it."""
    facts: Mapping[str, Any]
    """Columns of `runs`; empty where it was not attempted."""
    metrics: Mapping[str, float]
    costs: Mapping[str, Any]
    curve: Curve
    attempts: tuple[Attempt, ...]

    @property
    def spec(self) -> dict[str, Any]:
        """What the run_id is the hash of; empty where the plan has none."""
        try:
            found = json.loads(self.cell.spec or "{}")
        except ValueError:
            return {"spec": self.cell.spec}
        return found if isinstance(found, dict) else {"spec": found}


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a report says."""

    suite: str
    question: str | None
    description: tuple[str, ...]
    """The lines with which the suite file opens."""
    text: str | None
    """The suite file."""
    overrides: tuple[str, ...]
    """What `--set` changed in it."""
    digest: str
    plan: int
    metric: str
    higher_is_better: bool
    planned: int
    """Cells of the plan; a run that two cells ask for counts twice, as in `status`."""
    counts: Mapping[str, int]
    """Cells by status."""
    stages: Mapping[str, int]
    board: Leaderboard | None
    why_no_board: str | None
    runs: tuple[Run, ...]
    """In the plan's order, each once."""
    last_ended: datetime | None
    """When the last attempt ended."""
    bad_files: tuple[str, ...]
    """Files of the store that were set aside, with the reason."""
    provenance: Mapping[str, str]

    @property
    def failed(self) -> tuple[Run, ...]:
        """The runs whose standing attempt failed."""
        return tuple(run for run in self.runs if run.status == "failed")


def read(
    store: Store,
    suite: str,
    *,
    metric: str = "test/top1",
    provenance: Mapping[str, str] | None = None,
) -> Report:
    """The report of a suite's latest plan; TableError where the store has none of that name."""
    known = store.plans()
    if suite not in known:
        raise TableError(
            f"suite: {suite!r} given, allowed: {', '.join(known) or 'none has a plan yet'} "
            f"(store {store.path})"
        )
    table = store.plans_table()
    own = table.filter(pc.equal(table["suite"], suite))
    cells = store.plan(suite)
    attempts = store.attempts()
    found, why = None, None
    labels: dict[str, str] = {}
    higher = metrics.load(metric.rpartition("/")[2]).HIGHER_IS_BETTER
    try:
        joined = scores.join(table, views.runs_of(attempts), [suite], metric)
        found = board(joined, provenance)
        names, ids = joined.labels(), joined.plans["run_id"].to_pylist()
        labels = {run_id: names[row] for run_id, row in zip(ids, joined.row_N, strict=True)}
    except TableError as error:
        why = str(error)
    in_hand = standing.running(store)
    rows = _rows(attempts, {cell.run_id for cell in cells if cell.run_id})
    chosen = {
        run_id: next((row for row in of_run if row["status"] == "succeeded"), of_run[-1])
        for run_id, of_run in rows.items()
    }
    attempted = {run_id: row["status"] for run_id, row in chosen.items()}
    curves = _curves(store.epochs(), {run_id: row["attempt"] for run_id, row in chosen.items()})
    decisions = {key: held.get("reason") for key, held in store.decisions().items()}
    statuses = [standing.of(cell.run_id, attempted, in_hand) for cell in cells]
    runs: dict[str, Run] = {}
    for cell, status in zip(cells, statuses, strict=True):
        key = cell.run_id or f"waiting {cell.position}"
        if key in runs:
            continue
        row = chosen.get(key, {})
        runs[key] = Run(
            cell=cell,
            status=status,
            label=labels.get(key) or str(cell.variant),
            score=_score(row, metric),
            facts={name: row[name] for name in _RUN if row.get(name) is not None},
            metrics=row.get("metrics") or {},
            costs={name: row[name] for name in COSTS if row.get(name) is not None},
            curve=curves.get(key, {}),
            attempts=tuple(_attempt(each, decisions) for each in rows.get(key, ())),
        )
    text = store.plan_text(suite)
    ended = [row["ended_at"] for of_run in rows.values() for row in of_run if row["ended_at"]]
    return Report(
        suite=suite,
        question=question(text or ""),
        description=description(text or ""),
        text=text,
        overrides=tuple(json.loads(own["overrides"][0].as_py() or "[]")),
        digest=cells[0].suite_digest,
        plan=own["plan"][0].as_py(),
        metric=metric,
        higher_is_better=higher,
        planned=len(cells),
        counts=Counter(statuses),
        stages=Counter(cell.stage for cell in cells),
        board=found,
        why_no_board=why,
        runs=tuple(runs.values()),
        last_ended=max(ended, default=None),
        bad_files=tuple(
            f"{path.relative_to(store.path)}: {reason}" for path, reason in store.bad_files
        ),
        provenance=provenance or {},
    )


def _score(row: Mapping[str, Any], metric: str) -> float | None:
    score = (row.get("metrics") or {}).get(metric) if row.get("status") == "succeeded" else None
    return score if score is not None and np.isfinite(score) else None


def _attempt(row: Mapping[str, Any], decisions: Mapping[tuple[str, int], str | None]) -> Attempt:
    return Attempt(
        ending={name: row[name] for name in _ENDING if row[name] is not None},
        environment={name: row[name] for name in ENVIRONMENT if row[name] not in (None, {})},
        decision=decisions.get((row["run_id"], row["attempt"])),
    )


def _rows(attempts: pa.Table, wanted: set[str]) -> dict[str, list[dict[str, Any]]]:
    """The attempts at each wanted run, by number."""
    ids = pa.array(sorted(wanted), type=pa.string())
    names = ("run_id", *dict.fromkeys((*_ENDING, *ENVIRONMENT, *_RUN, *COSTS, "metrics")))
    kept = attempts.filter(pc.is_in(attempts["run_id"], value_set=ids)).select(names)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in kept.to_pylist(maps_as_pydicts="lossy"):
        rows[row["run_id"]].append(row)
    return rows


def _curves(epochs: pa.Table, attempt_of: Mapping[str, int]) -> dict[str, Curve]:
    """The curve of each run's attempt."""
    epochs = epochs.filter(
        pc.is_in(epochs["run_id"], value_set=pa.array(list(attempt_of), type=pa.string()))
    )
    order = ("run_id", "attempt", "epoch", "split")
    epochs = epochs.sort_by([(name, "ascending") for name in order])
    columns = (epochs[name].to_pylist() for name in (*order, "loss", "top1"))
    curves: dict[str, dict[str, list[tuple[int, float | None, float | None]]]] = {}
    for run_id, number, epoch, split, loss, top1 in zip(*columns, strict=True):
        if attempt_of[run_id] == number:
            curves.setdefault(run_id, {}).setdefault(split, []).append((epoch, loss, top1))
    return dict(curves)
