"""One run from its spec to its numbers: build, adapt, train, select on validation, score once on test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from adapters import backbones
from adapters.adapted import Adapted
from adapters.errors import StopRequested
from adapters.spec import TrialSpec, at_least
from adapters.training import features, seeding
from adapters.training.building import build as build
from adapters.training.building import start_head
from adapters.training.evaluate import Metrics, Normalise, Predictions, Score, score
from adapters.training.features import View
from adapters.training.fit import Fitter
from adapters.training.peers import ALONE, Peers
from adapters.training.progress import EpochResult as EpochResult
from adapters.training.progress import Progress, fit_row
from adapters.training.snapshot import Keeper, Snapshot
from adapters.training.telemetry import PeakMemory, Stopwatch, typical_epoch
from adapters.warm import Pixels, Prepared, Warm

SELECTION_METRIC = "top1"
"""The metric that picks the reported epoch, on the split that `train.select_epoch` names."""


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
    """All training epochs, without evaluation, in whatever attempt they were trained."""
    epoch_seconds: float | None
    """The median training epoch without the first one of each attempt; None if that leaves none."""
    eval_seconds: float
    """All evaluations that came to their end, in whatever attempt."""
    images_per_second: float
    peak_memory_bytes: int | None
    """Of this attempt."""
    data_digest: str
    resumed_from_epoch: int | None = None
    """Whole epochs that this attempt took over from an earlier one; None from the start."""
    resumed_from_step: int | None = None
    """Steps that it took over of the epoch after those."""
    kept_features: bool = False


class Observer(Protocol):
    """Hears of progress; either call may raise `StopRequested` to end the run."""

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Called before every optimiser step and every evaluation batch (then step == steps)."""

    def epoch(self, row: EpochResult) -> None:
        """Called with every finished epoch, first with those that an earlier attempt finished."""


def run_trial(
    spec: TrialSpec,
    metrics: Metrics,
    *,
    warm: Warm,
    observer: Observer,
    keeper: Keeper | None = None,
    micro_batch: int | None = None,
    peers: Peers = ALONE,
    keeps_features: bool = False,
    on_model: Callable[[Adapted], None] | None = None,
    on_predictions: Callable[[Predictions, str], None] | None = None,
) -> TrialResult:
    """Run `spec` on `warm.device`, from where `keeper` has it on.

    A snapshot goes to `keeper` after every `keeper.every_epochs` epochs but the last one, and where
    the observer raises StopRequested, before that is raised on. On a CPU the resumed run's numbers
    equal the unbroken run's bit for bit, times excepted.

    `keeps_features` lets it take `adapters.training.features` where it trains a head alone.
    `micro_batch` images at most are trained on at once; None stands for the spec's batch. All `peers`
    run the same spec at once, and the first one alone has a `keeper`.
    `on_model` is called once, with the selected epoch's weights in place, and `on_predictions` once
    with what these say of the test set and the digest of the images, unless `train.score` is none.

    Raises DataError where images or weights are not what is declared, NonFiniteError where the loss
    is, CheckpointError where the snapshot is of another model, ValueError where the method refuses
    the backbone, what torch raises (out of memory), and what `keeper` and the two functions raise.
    """
    if micro_batch is not None:
        at_least(1, micro_batch=micro_batch)
    info = backbones.describe(spec.backbone)
    ask, images = partial(observer.step, 1, 0, 1), (spec.dataset, spec.dataset_config)
    found: list[Prepared] = []  # not to be sent to the others, who have the same
    load = partial(warm.data, *images, info, spec.preprocess, on_progress=ask)
    peers.gather("data", lambda: found.append(load()))
    (data,) = found
    warm.frozen(spec.backbone)  # loading it is not part of what the run needs
    memory = PeakMemory(warm.device)
    adapted = build(spec, data.classes, warm)
    normalise = Normalise(info, warm.device, spec.preprocess)
    start_head(adapted.vit, spec, data, warm, normalise)
    view = View(adapted.vit, data, normalise)
    if keeps_features and peers.size == 1 and features.are_fixed(spec, adapted, data):
        view = features.of_head(spec, adapted.vit, data, info, normalise, warm, ask)
    run = _Run(spec, metrics, adapted, view, observer, keeper, micro_batch, peers)
    return run.run(memory, on_model, on_predictions)


class _Run:
    """The state of one run while it trains."""

    def __init__(
        self,
        spec: TrialSpec,
        metrics: Metrics,
        adapted: Adapted,
        view: View,
        observer: Observer,
        keeper: Keeper | None,
        micro_batch: int | None,
        peers: Peers,
    ) -> None:
        self._peers = peers
        self._spec, self._metrics, self._adapted, self._view = spec, metrics, adapted, view
        self._observer, self._keeper = observer, keeper
        train, data = spec.train, view.data
        self._images = data.train if train.fit == "train" else data.train.joined(data.val)
        self._watched = {"best_val": "val", "oracle_test": "test"}.get(train.select_epoch)
        self._fitter = Fitter(
            adapted,
            self._images,
            train=train,
            seed=spec.seed,
            normalise=view.normalise,
            micro_batch=micro_batch,
            peers=peers,
            model=view.model,
        )
        self._progress = Progress(adapted, self._fitter, self._watched)
        self._kept = self._progress.position
        """Where the keeper has the run."""
        self._scored: Predictions | None = None
        """Of the test set by the selected epoch's weights, where this attempt has scored it."""

    def run(
        self,
        memory: PeakMemory,
        on_model: Callable[[Adapted], None] | None,
        on_predictions: Callable[[Predictions, str], None] | None,
    ) -> TrialResult:
        epochs = self._spec.train.epochs
        progress = self._progress
        peers = self._peers
        # What is computed alike on two machines need not be the same to the last bit.
        peers.share([*self._adapted.trainable_parameters.values(), *self._adapted.vit.buffers()])
        from_epoch, from_step = self._resume()
        if peers.rank:  # the masks of dropout are to be others than those of the first process
            position = progress.position
            torch.manual_seed(seeding.derive(self._spec.seed, "peer", peers.rank, *position))
        try:
            for row in progress.curve:
                self._observer.epoch(row)
            for epoch in range(1, epochs + 1):
                self._epoch(epoch)
                last_epoch = epoch
                if progress.stops_early(epoch, self._spec.train.early_stopping):
                    break
                if epoch < epochs:
                    peers.gather("keep", partial(self._keep, epoch))
            best_epoch, scores = self._finish(last_epoch)
            if on_predictions is not None and self._spec.train.score == "test":
                if self._scored is None:  # by an earlier attempt, whose logits ended with it
                    self._scored = self._score(best_epoch, "test").predictions
                tell = partial(on_predictions, self._scored, self._view.data.digest)
                peers.gather("predictions", tell)
        except StopRequested:
            peers.gather("keep", self._keep)
            raise
        if on_model is not None:
            peers.gather("model", partial(on_model, self._adapted))
        params = {name: p.numel() for name, p in self._adapted.adapter_parameters.items()}
        active_params, active_subspaces = _active(self._adapted)
        return TrialResult(
            epochs=tuple(progress.curve),
            best_epoch=best_epoch,
            scores=scores,
            adapter_params=sum(params.values()),
            head_params=sum(p.numel() for p in self._adapted.head_parameters.values()),
            total_params=sum(p.numel() for p in self._adapted.vit.parameters()),
            active_params=active_params,
            active_subspaces=active_subspaces,
            train_seconds=progress.train_seconds,
            epoch_seconds=typical_epoch(progress.steady_seconds),
            eval_seconds=progress.eval_seconds,
            images_per_second=self._fitter.images_per_epoch * last_epoch / progress.train_seconds,
            peak_memory_bytes=memory.read(),
            data_digest=self._view.data.digest,
            resumed_from_epoch=from_epoch,
            resumed_from_step=from_step,
            kept_features=self._view.model is not self._adapted.vit,
        )

    def _epoch(self, epoch: int) -> None:
        """Train and, where it is its turn, score one epoch; what the curve has is not done again."""
        done = self._progress.splits_done(epoch)
        if "train" not in done:
            fit = self._fitter.epoch(epoch, partial(self._observer.step, epoch))
            self._add(fit_row(epoch, fit, self._fitter.images_per_epoch))
        train = self._spec.train
        if (epoch - 1) % train.eval_every_epochs and epoch < train.epochs:
            return
        follow = "val" if train.fit == "train" else None
        splits = dict.fromkeys(name for name in (follow, self._watched) if name)
        average = self._fitter.average
        for split in (split for split in splits if split not in done):
            with nullcontext() if average is None else average.in_place():
                self._evaluate(epoch, split)

    def _finish(self, last_epoch: int) -> tuple[int, dict[str, float]]:
        """Bring back the selected epoch's weights and score the test set with them, once."""
        best_epoch = last_epoch
        if self._progress.best is not None:
            _, best_epoch, tensors = self._progress.best
            with torch.no_grad():
                for name, parameter in self._adapted.trainable_parameters.items():
                    parameter.copy_(tensors[name])
        elif self._fitter.average is not None:
            self._fitter.average.put()
        at_best = [row for row in self._progress.curve if row.epoch == best_epoch]
        if self._spec.train.score == "test" and not any(row.split == "test" for row in at_best):
            at_best.append(self._evaluate(best_epoch, "test"))
        scores = {}
        for row in at_best:
            scores[f"{row.split}/loss"] = row.loss
            scores[f"{row.split}/top1"] = row.top1
            scores |= {f"{row.split}/{name}": value for name, value in row.metrics.items()}
        return best_epoch, scores

    def _score(self, epoch: int, split: str) -> Score:
        return score(
            self._view.model,
            getattr(self._view.data, split),
            normalise=self._view.normalise,
            precision=self._spec.train.precision,
            metrics=self._metrics,
            on_batch=lambda: self._observer.step(epoch, 1, 1),
            peers=self._peers,
        )

    def _evaluate(self, epoch: int, split: str) -> EpochResult:
        images: Pixels = getattr(self._view.data, split)
        watch = Stopwatch(images.pixels.device)
        result = self._score(epoch, split)
        seconds = watch.lap()
        row = EpochResult(
            epoch=epoch,
            split=split,
            loss=result.loss,
            top1=result.metrics[SELECTION_METRIC],
            seconds=seconds,
            images_per_second=len(images) / seconds,
            metrics=result.metrics,
        )
        self._add(row, result.predictions)
        return row

    def _add(self, row: EpochResult, predictions: Predictions | None = None) -> None:
        self._progress.add(row)
        best = self._progress.best
        if row.split == "test" and (best is None or best[1] == row.epoch):
            self._scored = predictions
        self._observer.epoch(row)  # last: it may ask to stop, and then the row is done

    def _keep(self, epoch: int | None = None) -> None:
        """Give the keeper a snapshot if it is due after `epoch`, unless it has that of this position."""
        if self._keeper is None or (epoch is not None and epoch % self._keeper.every_epochs):
            return
        if self._progress.position > self._kept:
            self._keeper.save(self._progress.snapshot())
            self._kept = self._progress.position

    def _resume(self) -> tuple[int | None, int | None]:
        """Go to where the keeper has the run: the epochs and the further steps trained by then."""
        found: list[Snapshot | None] = []
        load = (lambda: None) if self._keeper is None else self._keeper.load
        self._peers.gather("load", lambda: found.append(load()))
        kept = self._peers.broadcast(found[0])
        if kept is None:
            return None, None
        self._progress.restore(kept)
        self._kept = self._progress.position
        return kept.epoch, kept.step


def _active(adapted: Adapted) -> tuple[int | None, int | None]:
    """What of the parameters and of the subspaces still trains, where step hooks froze some."""
    trained = adapted.trainable_parameters.values()
    if all(parameter.requires_grad for parameter in trained):
        return None, None
    subspaces = [hook.active_subspaces for hook in adapted.step_hooks.values()]
    known = [number for number in subspaces if number is not None]
    return sum(p.numel() for p in trained if p.requires_grad), sum(known) if known else None
