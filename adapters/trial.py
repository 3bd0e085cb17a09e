"""One run from its spec to its numbers: build, adapt, train, select on validation, score once on test."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from adapters import backbones, registry
from adapters.adapted import Adapted, adapt
from adapters.spec import TrialSpec
from adapters.training import seeding
from adapters.training.evaluate import Metrics, Normalise, Score, score
from adapters.training.fit import EpochFit, Fitter
from adapters.training.telemetry import PeakMemory, Stopwatch, typical_epoch
from adapters.warm import Pixels, Prepared, Warm

SELECTION_METRIC = "top1"
"""The metric that picks the reported epoch, on the split that `train.select_epoch` names."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One row of a learning curve: an epoch (from 1) on one split."""

    epoch: int
    split: str
    loss: float
    top1: float
    seconds: float
    images_per_second: float
    lr: float | None = None
    grad_norm: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What a finished run measured."""

    epochs: tuple[EpochResult, ...]
    best_epoch: int
    scores: dict[str, float]
    """Keys `split/metric`, of the weights of `best_epoch`; `train/top1` is the running accuracy."""
    adapter_params: int
    """Trained elements but the head's."""
    head_params: int
    total_params: int
    """All parameters of the adapted model, the new head included."""
    active_params: int | None
    """Elements that still trained at the end, head included; None if no step hook froze any."""
    active_subspaces: int | None
    """Subspaces that still trained at the end; None likewise."""
    train_seconds: float
    """All training epochs, without evaluation."""
    epoch_seconds: float | None
    """The median training epoch without the first one; None for a single epoch."""
    eval_seconds: float
    images_per_second: float
    peak_memory_bytes: int | None
    data_digest: str


class Observer(Protocol):
    """Hears of progress; either call may raise `StopRequested` to end the run."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Called before every training step and every evaluation batch (then step == steps)."""

    def epoch(self, row: EpochResult) -> None:
        """Called with every finished epoch."""


def run_trial(spec: TrialSpec, metrics: Metrics, *, warm: Warm, observer: Observer) -> TrialResult:
    """Run `spec` on `warm.device`.

    Raises DataError where images or weights are not what is declared, NonFiniteError where the loss
    is, ValueError where the method refuses the backbone, and what torch raises (out of memory).
    """
    info = backbones.describe(spec.backbone)
    data = warm.data(spec.dataset, spec.dataset_config, info)
    warm.frozen(spec.backbone)  # loading it is not part of what the run needs
    memory = PeakMemory(warm.device)
    adapted = build(spec, data.classes, warm)
    return _Run(spec, metrics, adapted, data, Normalise(info, warm.device), observer).run(memory)


def build(spec: TrialSpec, classes: int, warm: Warm) -> Adapted:
    """The adapted model of a run before its first step."""
    vit = warm.backbone(spec.backbone)
    # What a method or dropout draws from the global generators depends on this run's seed alone.
    torch.manual_seed(seeding.derive(spec.seed, "global"))
    vit.reset_classifier(classes)  # type: ignore[operator]
    _init_head(vit.head, spec)  # type: ignore[arg-type]
    vit.to(warm.device)
    return adapt(
        vit,
        spec.method,
        spec.method_config,
        seeding.generator(
            spec.seed, "adapter", spec.method, registry.method(spec.method).SEMANTICS
        ),
    )


def _init_head(head: nn.Linear, spec: TrialSpec) -> None:
    """Torch's Linear initialisation, U(-1/sqrt(d), 1/sqrt(d)), from the run's own generator, or zero."""
    generator = seeding.generator(spec.seed, "head")
    bound = 1.0 / math.sqrt(head.in_features)
    for tensor in (head.weight, head.bias):
        if spec.train.head_init == "zero":
            nn.init.zeros_(tensor)
        else:
            nn.init.uniform_(tensor, -bound, bound, generator=generator)


class _Run:
    """The state of one run while it trains."""

    def __init__(
        self,
        spec: TrialSpec,
        metrics: Metrics,
        adapted: Adapted,
        data: Prepared,
        normalise: Normalise,
        observer: Observer,
    ) -> None:
        self._spec, self._metrics, self._adapted, self._data = spec, metrics, adapted, data
        self._normalise, self._observer = normalise, observer
        self._curve: list[EpochResult] = []
        self._eval_seconds = 0.0
        self._best: tuple[float, int, dict[str, Tensor]] | None = None

    def run(self, memory: PeakMemory) -> TrialResult:
        train = self._spec.train
        images = self._data.train
        if train.fit == "train+val":
            images = _join(images, self._data.val)
        fitter = Fitter(
            self._adapted, images, train=train, seed=self._spec.seed, normalise=self._normalise
        )
        watched = {"best_val": "val", "oracle_test": "test"}.get(train.select_epoch)
        follow = "val" if train.fit == "train" else None
        seconds: list[float] = []
        for epoch in range(1, train.epochs + 1):
            fit = fitter.epoch(epoch, partial(self._observer.step, epoch))
            seconds.append(fit.seconds)
            self._add(_fit_row(epoch, fit, len(images)))
            for split in dict.fromkeys(name for name in (follow, watched) if name):
                row = self._evaluate(epoch, split)
                if split == watched:
                    self._remember(row)
        best_epoch, scores = self._finish(train.epochs)
        params = {name: p.numel() for name, p in self._adapted.adapter_parameters.items()}
        active_params, active_subspaces = _active(self._adapted)
        return TrialResult(
            epochs=tuple(self._curve),
            best_epoch=best_epoch,
            scores=scores,
            adapter_params=sum(params.values()),
            head_params=sum(p.numel() for p in self._adapted.head_parameters.values()),
            total_params=sum(p.numel() for p in self._adapted.vit.parameters()),
            active_params=active_params,
            active_subspaces=active_subspaces,
            train_seconds=sum(seconds),
            epoch_seconds=typical_epoch(seconds),
            eval_seconds=self._eval_seconds,
            images_per_second=len(images) * train.epochs / sum(seconds),
            peak_memory_bytes=memory.read(),
            data_digest=self._data.digest,
        )

    def _finish(self, last_epoch: int) -> tuple[int, dict[str, float]]:
        """Bring back the selected epoch's weights and score the test set with them, once."""
        best_epoch = last_epoch
        if self._best is not None:
            _, best_epoch, tensors = self._best
            with torch.no_grad():
                for name, parameter in self._adapted.trainable_parameters.items():
                    parameter.copy_(tensors[name])
        at_best = [row for row in self._curve if row.epoch == best_epoch]
        if self._spec.train.score == "test" and not any(row.split == "test" for row in at_best):
            at_best.append(self._evaluate(best_epoch, "test"))
        scores = {}
        for row in at_best:
            scores[f"{row.split}/loss"] = row.loss
            scores[f"{row.split}/top1"] = row.top1
            scores |= {f"{row.split}/{name}": value for name, value in row.metrics.items()}
        return best_epoch, scores

    def _evaluate(self, epoch: int, split: str) -> EpochResult:
        images: Pixels = getattr(self._data, split)
        watch = Stopwatch(images.pixels.device)
        result: Score = score(
            self._adapted.vit,
            images,
            normalise=self._normalise,
            precision=self._spec.train.precision,
            metrics=self._metrics,
            on_batch=lambda: self._observer.step(epoch, 1, 1),
        )
        seconds = watch.lap()
        self._eval_seconds += seconds
        row = EpochResult(
            epoch=epoch,
            split=split,
            loss=result.loss,
            top1=result.metrics[SELECTION_METRIC],
            seconds=seconds,
            images_per_second=len(images) / seconds,
            metrics=result.metrics,
        )
        self._add(row)
        return row

    def _add(self, row: EpochResult) -> None:
        self._curve.append(row)
        self._observer.epoch(row)

    def _remember(self, row: EpochResult) -> None:
        """Keep the weights of the best epoch; of equals the earliest."""
        if self._best is None or row.top1 > self._best[0]:
            tensors = {
                name: parameter.detach().clone()
                for name, parameter in self._adapted.trainable_parameters.items()
            }
            self._best = (row.top1, row.epoch, tensors)


def _active(adapted: Adapted) -> tuple[int | None, int | None]:
    """What of the parameters and of the subspaces still trains, where step hooks froze some."""
    trained = adapted.trainable_parameters.values()
    if all(parameter.requires_grad for parameter in trained):
        return None, None
    subspaces = [hook.active_subspaces for hook in adapted.step_hooks.values()]
    known = [number for number in subspaces if number is not None]
    return sum(p.numel() for p in trained if p.requires_grad), sum(known) if known else None


def _fit_row(epoch: int, fit: EpochFit, images: int) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        split="train",
        loss=fit.loss,
        top1=fit.top1,
        lr=fit.lr,
        grad_norm=fit.grad_norm,
        seconds=fit.seconds,
        images_per_second=images / fit.seconds,
    )


def _join(first: Pixels, second: Pixels) -> Pixels:
    return Pixels(
        torch.cat((first.pixels, second.pixels)), torch.cat((first.labels, second.labels))
    )
