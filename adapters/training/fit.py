"""The training loop: one pass over the images per epoch, one optimiser step per batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters.adapted import Adapted
from adapters.errors import NonFiniteError, StopRequested
from adapters.spec import TrainConfig
from adapters.training import schedules, seeding
from adapters.training.evaluate import Normalise, autocast
from adapters.training.telemetry import Stopwatch
from adapters.warm import Pixels


@dataclass(frozen=True)
class EpochFit:
    """One training epoch: running loss and accuracy over its images, as they were trained on."""

    loss: float
    top1: float
    lr: float
    """The last step's learning rate, of the adapter's parameters."""
    grad_norm: float | None
    """Mean over steps of the L2 norm of all gradients."""
    seconds: float


@dataclass(kw_only=True)
class Underway:
    """How far the epoch under way is, and what its steps add up to."""

    step: int = 0
    """Steps trained; between epochs 0."""
    loss: float = 0.0
    """Sum over images."""
    correct: int = 0
    grad_norm: float = 0.0
    """Sum over steps."""
    seconds: float = 0.0


class Fitter:
    """Optimiser, schedule, batch order and step hooks of one run.

    `micro_batch` images at most go through the model at once; a step adds up the gradients of its
    batch. The result is the whole batch's but for rounding, and for dropout, whose masks differ.
    Raises ValueError where a step hook refuses a run of so many steps.
    """

    def __init__(
        self,
        adapted: Adapted,
        images: Pixels,
        *,
        train: TrainConfig,
        seed: int,
        normalise: Normalise,
        micro_batch: int | None = None,
    ) -> None:
        self.underway = Underway()
        self._vit: nn.Module = adapted.vit
        self._parameters = list(adapted.trainable_parameters.values())
        self._images = images
        self._train = train
        self._seed = seed
        self._normalise = normalise
        self._micro_batch = train.batch_size if micro_batch is None else micro_batch
        self.optimizer = _optimizer(adapted, train)
        self._peak_lr = [group["lr"] for group in self.optimizer.param_groups]
        self._steps_per_epoch = math.ceil(len(images) / train.batch_size)
        self._steps = self._steps_per_epoch * train.epochs
        self._warmup_steps = round(train.warmup_epochs * self._steps_per_epoch)
        self._hooks = list(adapted.step_hooks.values())
        for hook in self._hooks:
            hook.before_run(self._steps)

    def epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> EpochFit:
        """Train epoch `epoch` (from 1), or the rest of it where `underway` says that it has begun.

        `on_step(step, steps)` is called before every optimiser step, not before each of its
        micro-batches; a StopRequested that it raises leaves `underway` at that step. Raises
        NonFiniteError at the first loss that is infinite or not a number.
        """
        device = self._images.pixels.device
        order = torch.randperm(
            len(self._images), generator=seeding.generator(self._seed, "order", epoch)
        ).to(device)
        batches = torch.split(order, self._train.batch_size)
        self._vit.train()
        sums, watch = self.underway, Stopwatch(device)
        try:
            self._steps_of(epoch, batches, on_step)
        except StopRequested:
            sums.seconds += watch.lap()
            raise
        sums.seconds += watch.lap()
        self.underway = Underway()
        return EpochFit(
            loss=sums.loss / len(self._images),
            top1=sums.correct / len(self._images),
            lr=self.optimizer.param_groups[0]["lr"],
            grad_norm=sums.grad_norm / len(batches),
            seconds=sums.seconds,
        )

    def _steps_of(
        self, epoch: int, batches: Sequence[Tensor], on_step: Callable[[int, int], None]
    ) -> None:
        sums = self.underway
        for index in range(sums.step, len(batches)):
            on_step(index, len(batches))
            step = (epoch - 1) * self._steps_per_epoch + index
            scale = schedules.factor(self._train.schedule, step, self._steps, self._warmup_steps)
            for group, peak in zip(self.optimizer.param_groups, self._peak_lr, strict=True):
                group["lr"] = peak * scale
            self.optimizer.zero_grad(set_to_none=True)
            value, correct = self._add_gradients(batches[index])
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"loss is {value} at epoch {epoch}, step {index + 1} of {len(batches)}, "
                    f"learning rate {self._peak_lr[0] * scale:.3g}"
                )
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            sums.grad_norm += float(nn.utils.get_total_norm(gradients))
            self.optimizer.step()
            for hook in self._hooks:
                hook.after_step(step)
            sums.loss += value * len(batches[index])
            sums.correct += correct
            sums.step += 1

    def _add_gradients(self, batch_B: Tensor) -> tuple[float, int]:
        """Go forward and backward over the images of `batch_B`; their mean loss, and how many were right.

        Each micro-batch weighs as much as it has images, so a short last one weighs less.
        """
        value, correct = 0.0, 0
        for part_M in torch.split(batch_B, self._micro_batch):
            weight = len(part_M) / len(batch_B)
            labels_M = self._images.labels[part_M]
            with autocast(labels_M.device, self._train.precision):
                logits_MC = self._vit(self._normalise(self._images.pixels[part_M]))
            loss = functional.cross_entropy(
                logits_MC.float(), labels_M, label_smoothing=self._train.label_smoothing
            )
            value += float(loss.detach()) * weight
            correct += int((logits_MC.argmax(1) == labels_M).sum())
            torch.autograd.backward(loss * weight)
        return value, correct


def _optimizer(adapted: Adapted, train: TrainConfig) -> torch.optim.Optimizer:
    """Parameter groups: the adapter's decayed and undecayed tensors, then the head's."""
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in adapted.adapter_parameters.items():
        (undecayed if name in adapted.no_decay else decayed).append(parameter)
    head_lr = train.lr if train.head_lr is None else train.head_lr
    groups = [
        {"params": decayed, "lr": train.lr, "weight_decay": train.weight_decay},
        {"params": undecayed, "lr": train.lr, "weight_decay": 0.0},
        {
            "params": list(adapted.head_parameters.values()),
            "lr": head_lr,
            "weight_decay": train.weight_decay,
        },
    ]
    groups = [group for group in groups if group["params"]]
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups)
        case "adam":
            return torch.optim.Adam(groups)
        case "sgd":
            return torch.optim.SGD(groups, momentum=0.9)
    raise ValueError(f"optimizer: {train.optimizer!r} given, allowed: adamw, adam, sgd")
