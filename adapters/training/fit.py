"""The training loop: one pass over the images per epoch, one optimiser step per batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from adapters.adapted import Adapted
from adapters.errors import NonFiniteError
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


class Fitter:
    """Optimiser, schedule, batch order and step hooks of one run.

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
    ) -> None:
        self._vit: nn.Module = adapted.vit
        self._parameters = list(adapted.trainable_parameters.values())
        self._images = images
        self._train = train
        self._seed = seed
        self._normalise = normalise
        self._optimizer = _optimizer(adapted, train)
        self._peak_lr = [group["lr"] for group in self._optimizer.param_groups]
        self._hooks = list(adapted.step_hooks.values())
        self._steps_per_epoch = math.ceil(len(images) / train.batch_size)
        self._steps = self._steps_per_epoch * train.epochs
        self._warmup_steps = round(train.warmup_epochs * self._steps_per_epoch)
        for hook in self._hooks:
            hook.before_run(self._steps)

    def epoch(self, epoch: int, on_step: Callable[[int, int], None]) -> EpochFit:
        """Train epoch `epoch` (from 1); `on_step(step, steps)` is called before every step.

        Raises NonFiniteError at the first loss that is infinite or not a number.
        """
        device = self._images.pixels.device
        order = torch.randperm(
            len(self._images), generator=seeding.generator(self._seed, "order", epoch)
        ).to(device)
        batches = torch.split(order, self._train.batch_size)
        self._vit.train()
        watch = Stopwatch(device)
        loss_sum, correct, norm_sum = 0.0, torch.zeros((), device=device), 0.0
        for index, batch in enumerate(batches):
            on_step(index, len(batches))
            step = (epoch - 1) * self._steps_per_epoch + index
            scale = schedules.factor(self._train.schedule, step, self._steps, self._warmup_steps)
            for group, peak in zip(self._optimizer.param_groups, self._peak_lr, strict=True):
                group["lr"] = peak * scale
            labels_B = self._images.labels[batch]
            with autocast(device, self._train.precision):
                logits_BC = self._vit(self._normalise(self._images.pixels[batch]))
            loss = functional.cross_entropy(
                logits_BC.float(), labels_B, label_smoothing=self._train.label_smoothing
            )
            value = float(loss.detach())
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"loss is {value} at epoch {epoch}, step {index + 1} of {len(batches)}, "
                    f"learning rate {self._peak_lr[0] * scale:.3g}"
                )
            self._optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            norm_sum += float(nn.utils.get_total_norm(gradients))
            self._optimizer.step()
            for hook in self._hooks:
                hook.after_step(step)
            loss_sum += value * len(batch)
            correct += (logits_BC.argmax(1) == labels_B).sum()
        return EpochFit(
            loss=loss_sum / len(self._images),
            top1=float(correct) / len(self._images),
            lr=self._optimizer.param_groups[0]["lr"],
            grad_norm=norm_sum / len(batches),
            seconds=watch.lap(),
        )


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
