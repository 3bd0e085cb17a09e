"""What every target writes from: the attempted runs of a suite with settings, scores and curves.

All targets use the same names. `scored/<split>/<metric>` is a number of the epoch that the run
was scored at, `<split>/<quantity>` is a learning curve, and `cost/<column>` what the run cost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results import schema, views
from results.errors import ExportError
from results.record import PlanRow
from results.store import Store

Setting = bool | int | float | str

_COSTS = (
    *("trainable_params", "adapter_params", "head_params", "total_params", "trainable_percent"),
    *("model_bytes", "train_seconds", "epoch_seconds", "eval_seconds", "wall_seconds"),
    *("queue_seconds", "images_per_second", "peak_memory_bytes"),
)
_FACTS = (
    *("run_id", "config_id", "variant", "variant_id", "status", "failure_kind", "error"),
    *("adapted", "select_epoch", "best_epoch", "dataset_group", "weights_digest", "data_digest"),
    *("cost_comparable", "device", "device_share", "threads", "cpu_capability", "hostname"),
    *("git_commit", "git_dirty", "attempt", "attempts"),
)
_TIMES = ("created_at", "started_at", "ended_at")
_CURVES = ("loss", "top1", "lr", "grad_norm", "seconds", "images_per_second")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One attempted run: its first success, else its latest attempt."""

    cell: PlanRow
    """Where the suite's plan has it."""
    row: Mapping[str, Any]
    """The columns of `runs`, and `attempt`, the number of the attempt that stands for the run."""
    epochs: pa.Table
    """The epochs of that attempt, in order."""

    @property
    def name(self) -> str:
        """What a person calls it; runs that differ in their recipe alone share it."""
        return f"{self.row['variant']} {self.row['dataset']} seed {self.row['seed']}"

    @property
    def folder(self) -> str:
        """A name that no other run has, safe as one part of a path."""
        return f"{safe(self.name.replace(' ', '_'))}_{safe(str(self.row['run_id']))}"

    @property
    def succeeded(self) -> bool:
        """Whether it has a score; only then `scores` has any."""
        return bool(self.row["status"] == "succeeded")

    @property
    def params(self) -> dict[str, Any]:
        """The method's settings."""
        return {name: _value(text) for name, text in (self.row["params"] or {}).items()}

    @property
    def train(self) -> dict[str, Any]:
        """The recipe's settings; empty where the row has no spec."""
        return _part(_value(self.row["spec"] or ""), "train")

    def settings(self) -> dict[str, Setting]:
        """What was chosen: method, data set, backbone, seed, `params.*`, `train.*` and `data.*`."""
        data = _part(_part(_value(self.row["spec"] or ""), "dataset"), "config")
        parts = {name: self.row[name] for name in ("method", "dataset", "backbone", "seed")}
        return dict(_leaves("", parts | {"params": self.params, "train": self.train, "data": data}))

    def scores(self) -> dict[str, float]:
        """The scored epoch's metrics; none of a run that did not succeed."""
        metrics = self.row["metrics"] if self.succeeded else None
        return {f"scored/{name}": value for name, value in (metrics or {}).items()}

    def costs(self) -> dict[str, float]:
        """What it cost, as far as it is known."""
        return {f"cost/{n}": self.row[n] for n in _COSTS if self.row[n] is not None}

    def facts(self) -> dict[str, Setting]:
        """How it ended, where it ran and what it was made of."""
        plan = {
            "suite": self.cell.suite,
            "stage": self.cell.stage,
            "selected_from": self.cell.selected_from,
        }
        times = {n: time.isoformat() for n in _TIMES if (time := self.row[n]) is not None}
        known = plan | {name: self.row[name] for name in _FACTS} | times
        known |= {f"versions.{name}": text for name, text in (self.row["versions"] or {}).items()}
        return {name: value for name, value in known.items() if value is not None}

    def curves(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The numbers of each epoch."""
        at: dict[int, dict[str, float]] = {}
        for row in self.epochs.to_pylist(maps_as_pydicts="strict"):
            found = {name: row[name] for name in _CURVES} | (row["metrics"] or {})
            numbers = at.setdefault(row["epoch"], {})
            numbers |= {f"{row['split']}/{k}": v for k, v in found.items() if v is not None}
        yield from at.items()


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is exported."""

    suite: str
    suite_digest: str
    planned: int
    """Runs in the suite's latest plan, those without a row included."""
    runs: tuple[Run, ...]
    """Those that have a row, in the plan's order."""


def read(store: Store, suite: str) -> Source:
    """The attempted runs of a suite's latest plan; ExportError where there are none."""
    if suite not in store.plans():
        known = ", ".join(store.plans()) or "none has a plan yet"
        raise ExportError(f"suite: {suite!r} given, allowed: {known} (store {store.path})")
    plan = store.plan(suite)
    # A run that two cells ask for is one run; a final that waits for its winner has no id yet.
    cells = {cell.run_id or f"waiting {cell.position}": cell for cell in reversed(plan)}
    rows = _rows(store.attempts(), cells)
    curves = _curves(store.epochs(), {run_id: row["attempt"] for run_id, row in rows.items()})
    nothing = schema.arrow_schema(schema.EPOCHS).empty_table()
    runs = tuple(
        Run(cell=cell, row=rows[run_id], epochs=curves.get(run_id, nothing))
        for run_id, cell in sorted(cells.items(), key=lambda item: item[1].position)
        if run_id in rows
    )
    if not runs:
        raise ExportError(
            f"suite: {suite!r} given, none of whose {len(cells)} runs was attempted yet; "
            "allowed: a suite with a finished or failed run"
        )
    return Source(suite=suite, suite_digest=plan[0].suite_digest, planned=len(cells), runs=runs)


def safe(text: str) -> str:
    """The text as one part of a path: letters, digits and a few signs, of bounded length."""
    return re.sub(r"[^A-Za-z0-9_=+,.\[\]-]", "_", text).lstrip(".")[:120]


def _rows(attempts: pa.Table, wanted: Mapping[str, PlanRow]) -> dict[str, dict[str, Any]]:
    """For each wanted run the row that stands for it."""
    index, counts = views.standings(attempts)
    columns = [*(column.name for column in schema.RUNS if column.name != "attempts"), "attempt"]
    standing = attempts.select(columns).take(index).append_column("attempts", counts)
    chosen = pc.is_in(standing.column("run_id"), value_set=pa.array(list(wanted), type=pa.string()))
    rows = standing.filter(chosen).to_pylist(maps_as_pydicts="strict")
    return {row["run_id"]: row for row in rows}


def _curves(epochs: pa.Table, attempt_of: Mapping[str, int]) -> dict[str, pa.Table]:
    """By run, the epochs of the attempt that stands for it; slices of one sorted table."""
    wanted = pa.array(list(attempt_of), type=pa.string())
    epochs = epochs.filter(pc.is_in(epochs.column("run_id"), value_set=wanted))
    order = ("run_id", "attempt", "epoch", "split")
    epochs = epochs.sort_by([(name, "ascending") for name in order])
    ids, numbers = (epochs.column(name).to_pylist() for name in order[:2])
    spans: dict[str, tuple[int, int]] = {}
    for index, (run_id, number) in enumerate(zip(ids, numbers, strict=True)):
        if attempt_of[run_id] == number:
            spans[run_id] = spans.get(run_id, (index, 0))[0], index + 1
    return {run_id: epochs.slice(first, end - first) for run_id, (first, end) in spans.items()}


def _part(value: Any, name: str) -> dict[str, Any]:
    """The dict `value[name]`; an empty one where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Setting]]:
    """The values in nested settings by dotted path; a list is its JSON, null is left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, list):
        yield path, json.dumps(value)
    elif value is not None:
        yield path, value


def seconds(time: datetime | None) -> float | None:
    """Seconds since 1970, UTC."""
    return None if time is None else time.timestamp()
