"""What a run has come to so far: its learning curve and the best epoch's weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from adapters.adapted import Adapted
from adapters.training import snapshot
from adapters.training.fit import EpochFit, Fitter, Underway
from adapters.training.snapshot import Snapshot


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


def fit_row(epoch: int, fit: EpochFit, images: int) -> EpochResult:
    """The row of a training epoch over `images` images."""
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


def out_of_patience(scores: Sequence[float], patience: int) -> bool:
    """Whether `scores`, of one evaluation after another, end with the one that stops a run early.

    A strictly better score than the best starts the count again, a worse one adds to it, an equal
    one does neither.
    """
    best, worse = -math.inf, 0
    for score in scores:
        if score > best:
            best, worse = score, 0
        elif score < best:
            worse += 1
    return worse >= patience


class Progress:
    """The rows and the best weights of one run, over all attempts at it."""

    def __init__(self, adapted: Adapted, fitter: Fitter, watched: str | None) -> None:
        self.curve: list[EpochResult] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        """Score, epoch and trained tensors of the best epoch on the split `watched`, if any."""
        self.steady_seconds: list[float] = []
        """Of the training epochs but each attempt's first, which warms up or was begun before it."""
        self._adapted, self._fitter, self._watched = adapted, fitter, watched
        self._is_warm = False

    def add(self, row: EpochResult) -> None:
        """Take in a finished epoch on a split."""
        self.curve.append(row)
        if row.split == "train":
            if self._is_warm:
                self.steady_seconds.append(row.seconds)
            self._is_warm = True
        if row.split == self._watched:
            self._remember(row)

    def splits_done(self, epoch: int) -> set[str]:
        """The splits of which `epoch` is on the curve."""
        return {row.split for row in self.curve if row.epoch == epoch}

    def stops_early(self, epoch: int, patience: int | None) -> bool:
        """Whether the scores on val up to `epoch` end a run of this patience; None never does."""
        scores = [r.top1 for r in self.curve if r.split == "val" and r.epoch <= epoch]
        return patience is not None and out_of_patience(scores, patience)

    @property
    def train_seconds(self) -> float:
        """All finished training epochs."""
        return sum(row.seconds for row in self.curve if row.split == "train")

    @property
    def eval_seconds(self) -> float:
        """All finished evaluations."""
        return sum(row.seconds for row in self.curve if row.split != "train")

    @property
    def position(self) -> tuple[int, int]:
        """Rows on the curve and steps of the epoch under way: it rises with whatever is done."""
        return len(self.curve), self._fitter.underway.step

    def snapshot(self) -> Snapshot:
        """The run as it stands, between two steps or two splits; its tensors are not copied."""
        tensors = snapshot.take(self._adapted, self._fitter.optimizer)
        if (average := self._fitter.average) is not None:
            tensors |= {f"ema/{name}": tensor for name, tensor in average.tensors.items()}
        state = {
            "curve": [dataclasses.asdict(row) for row in self.curve],
            "steady_seconds": self.steady_seconds,
            "underway": dataclasses.asdict(self._fitter.underway),
        }
        if self._fitter.scaler is not None:
            state["scaler"] = self._fitter.scaler.state_dict()
        if self.best is not None:
            value, epoch, weights = self.best
            state["best"] = [value, epoch]
            tensors |= {f"best/{name}": tensor for name, tensor in weights.items()}
        return Snapshot(
            epoch=sum(row.split == "train" for row in self.curve),
            step=self._fitter.underway.step,
            tensors=tensors,
            state=state,
        )

    def restore(self, kept: Snapshot) -> None:
        """Go to where the run stood. Raises CheckpointError where the model is another."""
        snapshot.put(kept.tensors, self._adapted, self._fitter.optimizer)
        self.curve = [EpochResult(**row) for row in kept.state["curve"]]
        self.steady_seconds = list(kept.state["steady_seconds"])
        self._fitter.underway = Underway(**kept.state["underway"])
        if self._fitter.average is not None:
            self._fitter.average.load(snapshot.under(kept.tensors, "ema"))
        if self._fitter.scaler is not None:
            self._fitter.scaler.load_state_dict(kept.state["scaler"])
        if "best" in kept.state:
            value, epoch = kept.state["best"]
            device = next(self._adapted.vit.parameters()).device
            weights = snapshot.under(kept.tensors, "best")
            self.best = value, epoch, {n: t.to(device, copy=True) for n, t in weights.items()}

    def _remember(self, row: EpochResult) -> None:
        """Keep the weights of the best epoch; of equals the earliest."""
        if self.best is None or row.top1 > self.best[0]:
            tensors = {
                name: parameter.detach().clone()
                for name, parameter in self._adapted.trainable_parameters.items()
            }
            self.best = row.top1, row.epoch, tensors
