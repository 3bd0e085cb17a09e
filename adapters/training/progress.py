"""What a run has come to so far: its learning curve and the best epoch's weights."""

from __future__ import annotations

import dataclasses
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
        state = {
            "curve": [dataclasses.asdict(row) for row in self.curve],
            "steady_seconds": self.steady_seconds,
            "underway": dataclasses.asdict(self._fitter.underway),
        }
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
