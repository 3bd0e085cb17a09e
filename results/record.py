"""Rows of the store as typed, frozen dataclasses. Their fields are the columns of `results.schema`.

What follows from other fields is no field: `test_top1` and its like come from `metrics`, the
percentage from the two counts, and the name and digest of the epochs file from the commit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

import pyarrow as pa

from results.schema import FAILURE_KINDS, STATUSES, Column, arrow_schema

_FROM_METRICS = ("train_top1", "val_top1", "test_top1", "test_nll", "test_ece")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at one run: what it was, how it ended, what it cost and where it ran."""

    run_id: str
    attempt: int
    """From `Store.claim`; 1 for the first."""
    status: str
    """One of `STATUSES`."""

    config_id: str | None = None
    variant: str | None = None
    variant_id: str | None = None
    spec: str | None = None
    """Canonical JSON text."""
    semantics: Mapping[str, int] = field(default_factory=dict)
    backbone: str | None = None
    weights_digest: str | None = None
    method: str | None = None
    rank: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    dataset_group: str | None = None
    data_digest: str | None = None
    seed: int | None = None

    failure_kind: str | None = None
    """One of `FAILURE_KINDS` for a failed attempt, None for any other."""
    error: str | None = None
    adapted: bool | None = None
    select_epoch: str | None = None
    best_epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Keys `split/metric`; the columns `test_top1` and so on are filled from here."""

    trainable_params: int | None = None
    adapter_params: int | None = None
    head_params: int | None = None
    total_params: int | None = None
    active_params: int | None = None
    active_subspaces: int | None = None
    model_bytes: int | None = None
    model_file: str | None = None
    model_digest: str | None = None
    predictions_file: str | None = None
    predictions_digest: str | None = None
    train_seconds: float | None = None
    epoch_seconds: float | None = None
    eval_seconds: float | None = None
    wall_seconds: float | None = None
    queue_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    cost_comparable: bool | None = None

    device: str | None = None
    device_share: float | None = None
    threads: int | None = None
    cpu_capability: str | None = None
    precision: str | None = None
    hostname: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    created_at: datetime | None = None
    """This and the next two carry a time zone; they are stored in UTC."""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    job: str | None = None
    node: str | None = None
    resumed_from_epoch: int | None = None
    evidence: str | None = None
    log_path: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status: {self.status!r} given, allowed: {', '.join(STATUSES)}")
        allowed = FAILURE_KINDS if self.status == "failed" else (None,)
        if self.failure_kind not in allowed:
            raise ValueError(
                f"failure_kind: {self.failure_kind!r} given with status {self.status!r}, "
                f"allowed: {', '.join(map(str, allowed))}"
            )
        for name in ("created_at", "started_at", "ended_at"):
            value = getattr(self, name)
            if value is not None and value.tzinfo is None:
                raise ValueError(f"{name}: {value} given, allowed: a time with a time zone")

    def to_row(self) -> dict[str, Any]:
        """The values of the columns, derived ones included."""
        row = _plain(self)
        for name in _FROM_METRICS:
            row[name] = self.metrics.get(name.replace("_", "/", 1))
        if self.trainable_params is not None and self.total_params:
            row["trainable_percent"] = 100 * self.trainable_params / self.total_params
        return row


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of one attempt on one split."""

    run_id: str
    attempt: int
    epoch: int
    """From 1."""
    split: str
    """train, val or test."""
    loss: float | None = None
    top1: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The values of the columns."""
        return _plain(self)


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One planned cell of a suite, described so that it can be shown before it has run."""

    suite: str
    suite_digest: str
    position: int
    stage: str
    """single, tune or final."""
    run_id: str | None = None
    """None for a final whose winner is not known yet."""
    config_id: str | None = None
    selected_from: str | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None
    variant_id: str | None = None
    backbone: str | None = None
    method: str | None = None
    dataset: str | None = None
    seed: int | None = None
    spec: str | None = None
    trainable_params: int | None = None
    adapter_params: int | None = None
    total_params: int | None = None

    def to_row(self, *, plan: int, overrides: Sequence[str]) -> dict[str, Any]:
        """The values of the columns, with the number and the overrides of its plan."""
        return _plain(self) | {"plan": plan, "overrides": json.dumps(list(overrides))}


def to_table(rows: Iterable[Mapping[str, Any]], columns: tuple[Column, ...]) -> pa.Table:
    """Rows as an Arrow table with the declared columns; what a row does not have is null."""
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(columns))


def from_row(cls: type[T], row: Mapping[str, Any]) -> T:
    """The dataclass from a row of `Table.to_pylist`; columns that are no field are left out."""
    names, maps = _fields(cast(Any, cls))  # mypy takes no class for hashable
    values = {name: row[name] for name in names}
    return cls(**values | {name: dict(values[name] or ()) for name in maps})


@cache
def _fields(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of all fields of a row, and of those that hold a mapping."""
    fields = dataclasses.fields(cls)
    maps = tuple(item.name for item in fields if item.default_factory is dict)
    return tuple(item.name for item in fields), maps


def _plain(record: Any) -> dict[str, Any]:
    names, maps = _fields(cast(Any, type(record)))
    row = {name: getattr(record, name) for name in names}
    # Arrow takes a map as pairs; sorted, so that equal rows are equal bytes.
    return row | {name: sorted(row[name].items()) for name in maps}


@dataclass(frozen=True, kw_only=True)
class Latest:
    """How the latest attempt at a run stands."""

    number: int
    """0 where there is none yet."""
    claim: dict[str, Any] | None
    """What `claim` was given; None where the attempt is closed, or its claim cannot be read."""
    succeeded: bool
    """Whether any attempt succeeded: then the run is done."""
