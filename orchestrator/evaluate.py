"""Scoring trained runs on further sets and along WiSE paths, in this process; nothing is trained.

Rows that the store has are not made again, so a stopped evaluation goes on where it was, and a new set or
more alphas cost only themselves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator import provenance
from results import evaluations, metrics
from results.errors import StoreError
from results.evaluations import Evaluation, Key
from results.models import check_model, model_of
from results.store import Store
from suites.sets import EvaluationSet
from suites.spec import RunSpec

if TYPE_CHECKING:
    from adapters.robustness import Images, Mode, TrainedRun
    from adapters.warm import Pixels, Warm

STAGES = ("single", "final")
_COLUMNS = ("status", "model_file", "model_digest", "error")


class Point(NamedTuple):
    """A model of a run: see `adapters.robustness`."""

    mode: Mode
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What an evaluation came to."""

    runs: int
    """Runs that all was scored of, now or before."""
    made: int
    """Rows that were made now."""
    known: int
    """Rows that the store had already."""
    left_out: dict[str, str]
    """Runs that could not be scored on all sets, with the reason."""


def points(mode: Mode, alphas: int) -> list[Point]:
    """The models that a mode asks for; a path (`all`, `head`) has that many of them, both ends included."""
    if mode in ("trained", "zero_shot"):
        return [Point(mode, 1.0 if mode == "trained" else 0.0)]
    return [Point(mode, round(step / (alphas - 1), 12)) for step in range(alphas)]


def evaluate(
    store: Store,
    suite: str,
    sets: Sequence[EvaluationSet],
    wanted: Sequence[Point],
    warm: Warm,
    threads: int,
    on_row: Callable[[int, int], None],
) -> Evaluated:
    """Score every finished run of a suite's latest plan; rows of a run are kept as it is done.

    `on_row` hears how many rows are done, of how many. Raises StoreError for a suite without a plan.
    """
    cells = [cell for cell in store.plan(suite) if cell.stage in STAGES]
    if not cells:
        planned = ", ".join(store.plans()) or "none has a plan yet"
        raise StoreError(f"suite: {suite!r} given, allowed: {planned} (store {store.path})")
    rows = {row["run_id"]: row for row in store.runs(_COLUMNS).to_pylist()}
    done = evaluations.keys(store.evaluations(evaluations.KEYS))
    work: list[tuple[RunSpec, list[tuple[EvaluationSet, Point]], Any]] = []
    left_out: dict[str, str] = {}
    known = 0
    for cell in cells:
        if cell.run_id is None or cell.run_id not in rows:
            left_out[cell.run_id or f"cell {cell.position}"] = "has not run yet"
            continue
        row = rows[cell.run_id]
        spec = _spec(cell)
        asked = [(each, point) for each in sets for point in wanted]
        missing = [
            (each, point)
            for each, point in asked
            if Key(cell.run_id, each.name(spec), "test", *point) not in done
        ]
        known += len(asked) - len(missing)
        reason = _unusable(store, row, spec, wanted)
        if missing and reason:
            left_out[cell.run_id] = reason
        elif missing:
            work.append((spec, missing, row))
    total = sum(len(missing) for _, missing, _ in work)
    said = {**provenance.of_source(), "versions": provenance.of_packages()}
    said |= {"device": provenance.of_device(warm.device), "threads": threads}
    made, scorer = 0, _Scorer(warm, said)
    for spec, missing, row in sorted(work, key=lambda job: (job[0].backbone, job[0].dataset)):
        from adapters.errors import DataError
        from adapters.robustness import TrainedRun

        try:
            with model_of(store, row) as model:
                run = TrainedRun(spec.trial(), model, warm)
        except (DataError, StoreError, ValueError) as error:
            left_out[spec.run_id] = str(error)
            continue
        found: list[Evaluation] = []
        refused: dict[EvaluationSet, str] = {}
        for each, point in missing:
            if each in refused:
                continue
            try:
                found.append(scorer.row(run, spec, each, point, row["model_digest"]))
            except (DataError, ValueError) as error:
                refused[each] = str(error)
                continue
            made += 1
            on_row(made, total)
        if refused:
            left_out[spec.run_id] = "; ".join(refused.values())
        if found:
            store.save_evaluations(found)
    runs = len(cells) - len(left_out)
    return Evaluated(runs=runs, made=made, known=known, left_out=left_out)


def _spec(cell: Any) -> RunSpec:
    names = {name: getattr(cell, name) for name in ("run_id", "config_id", "variant", "variant_id")}
    science = json.loads(cell.spec)
    return RunSpec(seed=science.pop("seed"), seedless=science, **names)


def _unusable(store: Store, row: Any, spec: RunSpec, wanted: Sequence[Point]) -> str | None:
    """Why a run cannot be scored; None where it can."""
    from adapters.robustness import no_path

    if row["status"] != "succeeded":
        return f"{row['status']}: {row['error'] or 'no error is known'}"
    try:
        check_model(store, row)
    except StoreError as error:
        return str(error)
    on_path = any(point.mode == "all" for point in wanted)
    return no_path(spec.method) if on_path else None


class _Scorer:
    """Scores models of runs on sets; the last corrupted set is kept, since a path asks for it often."""

    def __init__(self, warm: Warm, said: Mapping[str, Any]) -> None:
        self._warm, self._said = warm, said
        self._metrics = {name: module.compute for name, module in metrics.all_metrics().items()}
        self._corrupted: tuple[Any, Pixels] | None = None

    def row(
        self,
        run: TrainedRun,
        spec: RunSpec,
        each: EvaluationSet,
        point: Point,
        model_digest: str,
    ) -> Evaluation:
        """One evaluation; DataError where run and set do not go together."""
        images, digest = self._images(run, spec, each)
        began = time.perf_counter()
        score = run.score(images, point.mode, point.alpha, self._metrics)
        return Evaluation(
            run_id=spec.run_id,
            set=images.name,
            split="test",
            mode=point.mode,
            alpha=point.alpha,
            own=each.is_own(spec),
            corruption=each.corruption,
            severity=each.severity,
            images=len(images.pixels),
            metrics=score.metrics,
            loss=score.loss,
            seconds=time.perf_counter() - began,
            set_digest=digest,
            model_digest=model_digest,
            created_at=datetime.now(UTC),
            **self._said,
        )

    def _images(self, run: TrainedRun, spec: RunSpec, each: EvaluationSet) -> tuple[Images, str]:
        """The test images of a set at the run's input size, and the digest of the set.

        DataError where the set is for models of another number of classes.
        """
        from adapters import backbones, registry
        from adapters.corruptions import corrupt
        from adapters.errors import DataError
        from adapters.robustness import Images
        from adapters.warm import Pixels

        part, info = each.of(spec), backbones.describe(spec.backbone)
        wanted = registry.trained_classes(part.name)
        if wanted not in (None, run.classes):
            raise DataError(
                f"set {each.name(spec)}: for models of {wanted} classes, but the run on "
                f"{spec.dataset} tells {run.classes} classes apart"
            )
        found = self._warm.test_images(part.name, part.config, info, spec.trial().preprocess)
        pixels = found.pixels
        if each.corruption is not None and each.severity is not None:
            key = part, info.name, each.corruption, each.severity
            if self._corrupted is None or self._corrupted[0] != key:
                made = corrupt(pixels.pixels, each.corruption, each.severity)
                self._corrupted = key, Pixels(made, pixels.labels)
            pixels = self._corrupted[1]
        return Images(name=each.name(spec), pixels=pixels, classes=found.classes), found.digest
