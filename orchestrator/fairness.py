"""What a plan gives each method: tuning runs, preprocessing, parameters. Nothing is judged here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.plan import Plan, PlannedRun
from suites.spec import adapter_params

ENDED = ("succeeded", "failed")


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one variant gets, over all backbones and data sets."""

    variant: str
    tuning_planned: int
    tuning_spent: int
    """Tuning runs that have ended."""
    selections: int
    """Cells of the grid backbones x data sets that it is tuned on."""
    adapter_params: tuple[int, int]
    """Least and most trainable parameters over backbones, without the head."""
    is_exact: bool
    """False where the numbers are upper bounds."""


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """A plan's shares."""

    shares: tuple[Share, ...]
    same_preprocessing: bool
    """Whether all runs on one backbone and data set see the same images."""

    def lines(self) -> list[str]:
        """The report, a line each for tuning, preprocessing and parameters."""
        told = "the same for all methods" if self.same_preprocessing else "differs between methods"
        least = [share.adapter_params[0] for share in self.shares]
        most = [share.adapter_params[1] for share in self.shares]
        bound = "" if all(share.is_exact for share in self.shares) else "at most "
        return [
            self._tuning(),
            f"preprocessing: {told} on one backbone and data set",
            f"trained without the head: {_span(min(least), max(most), bound)} parameters",
        ]

    def _tuning(self) -> str:
        per = [s.tuning_planned / s.selections for s in self.shares if s.selections]
        if not per:
            return "tuning: no runs"
        spent = sum(share.tuning_spent for share in self.shares)
        planned = sum(share.tuning_planned for share in self.shares)
        each = _span(min(per), max(per))
        return (
            f"tuning: {each} runs of each variant on each data set; {spent} of {planned} have ended"
        )


def of_plan(planned: Plan) -> Fairness | None:
    """The shares of a plan's variants, in its order; None for a plan without runs."""
    if not planned.runs:
        return None
    by_variant: dict[str, list[PlannedRun]] = {}
    for run in planned.runs:
        by_variant.setdefault(run.cell.spec.variant, []).append(run)
    return Fairness(
        shares=tuple(_share(name, runs) for name, runs in by_variant.items()),
        same_preprocessing=_same_images(planned),
    )


def _same_images(planned: Plan) -> bool:
    images: dict[tuple[str, str], str] = {}
    for run in planned.runs:
        seen = json.dumps(run.cell.spec.science["preprocessing"], sort_keys=True)
        place = run.cell.spec.backbone, run.cell.axes["dataset"]
        if images.setdefault(place, seen) != seen:
            return False
    return True


def _share(variant: str, runs: Sequence[PlannedRun]) -> Share:
    tuned = [run for run in runs if run.cell.stage == "tune"]
    first = {run.cell.spec.backbone: run for run in runs}
    counts = [adapter_params(run.cell.spec.trial()) for run in first.values()]
    return Share(
        variant=variant,
        tuning_planned=len(tuned),
        tuning_spent=sum(run.status in ENDED for run in tuned),
        selections=len({(run.cell.spec.backbone, run.cell.axes["dataset"]) for run in tuned}),
        adapter_params=(min(counts), max(counts)),
        is_exact=all(run.count_is_exact for run in runs),
    )


def _span(least: float, most: float, bound: str = "") -> str:
    low, high = f"{least:,.6g}", f"{most:,.6g}"
    if isinstance(least, int):
        low, high = f"{least:,}", f"{most:,}"
    return f"{bound}{low}" if low == high else f"{low} to {bound}{high}"
