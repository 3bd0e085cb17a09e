"""From a spec and what a trial measured to the rows of the result tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters import registry
from results.record import Attempt, Epoch, PlanRow
from suites.spec import RunSpec, shown

if TYPE_CHECKING:
    from adapters.trial import EpochResult, TrialResult
    from orchestrator.plan import PlannedRun
    from suites.suite import Group, Suite


def of_result(result: TrialResult) -> dict[str, Any]:
    """The columns that a finished trial measured."""
    return {
        "data_digest": result.data_digest,
        "best_epoch": result.best_epoch,
        "metrics": result.scores,
        "trainable_params": result.adapter_params + result.head_params,
        "adapter_params": result.adapter_params,
        "head_params": result.head_params,
        "total_params": result.total_params,
        "active_params": result.active_params,
        "active_subspaces": result.active_subspaces,
        "train_seconds": result.train_seconds,
        "epoch_seconds": result.epoch_seconds,
        "eval_seconds": result.eval_seconds,
        "images_per_second": result.images_per_second,
        "peak_memory_bytes": result.peak_memory_bytes,
        "resumed_from_epoch": result.resumed_from_epoch,
        # Its seconds are not those of a run that puts its images through the backbone.
        **({"adapted": True, "cost_comparable": False} if result.kept_features else {}),
    }


def attempt(
    spec: RunSpec, *, number: int, started_at: datetime | None, status: str, **columns: Any
) -> Attempt:
    """One attempt of `spec`, ending now; `columns` are what it measured."""
    return Attempt(
        attempt=number,
        status=status,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        **_described(spec) | columns,
    )


def _described(spec: RunSpec) -> dict[str, Any]:
    """The columns of an attempt that follow from the spec alone."""
    science = spec.science
    return {
        **_identified(spec),
        "semantics": science["semantics"],
        "weights_digest": science["backbone"]["weights_digest"],
        "rank": None if "rank" not in spec.params else shown(spec.params["rank"]),
        "params": {name: json.dumps(value) for name, value in spec.params.items()},
        "dataset_group": registry.dataset(spec.dataset).GROUP,
        "data_digest": science["dataset"]["digest"],
        "precision": science["train"]["precision"],
        "select_epoch": science["train"]["select_epoch"],
    }


def planned(suite: Suite, position: int, run: PlannedRun) -> PlanRow:
    """One planned cell of `suite`."""
    return PlanRow(
        suite=suite.name,
        suite_digest=suite.digest,
        position=position,
        stage=run.cell.stage,
        selected_from=run.cell.selected_from,
        axes=dict(run.cell.axes),
        trainable_params=run.trainable_params,
        **_identified(run.cell.spec),
    )


def waiting(suite: Suite, position: int, group: Group) -> PlanRow:
    """A final cell of `suite` whose settings are not chosen yet, so that it has no identity."""
    trial = group.candidates[0].trial
    return PlanRow(
        suite=suite.name,
        suite_digest=suite.digest,
        position=position,
        stage="final",
        axes=group.key,
        variant=group.key.get("variant"),
        backbone=trial.backbone,
        method=trial.method,
        dataset=trial.dataset,
    )


def _identified(spec: RunSpec) -> dict[str, Any]:
    """What a run is called, in plans and attempts alike."""
    return {
        "run_id": spec.run_id,
        "config_id": spec.config_id,
        "variant": spec.variant,
        "variant_id": spec.variant_id,
        "spec": json.dumps(spec.science, sort_keys=True),
        "backbone": spec.backbone,
        "method": spec.method,
        "dataset": spec.dataset,
        "seed": spec.seed,
    }


def epochs(run_id: str, number: int, curve: Sequence[EpochResult]) -> list[Epoch]:
    """The learning curve as rows."""
    return [
        Epoch(
            run_id=run_id,
            attempt=number,
            epoch=row.epoch,
            split=row.split,
            loss=row.loss,
            top1=row.top1,
            lr=row.lr,
            grad_norm=row.grad_norm,
            seconds=row.seconds,
            images_per_second=row.images_per_second,
            metrics=row.metrics,
        )
        for row in curve
    ]
