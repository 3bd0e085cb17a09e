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
from adapters.training import mixing, schedules, seeding
from adapters.training.augment import Augment
from adapters.training.averaging import Average
from adapters.training.evaluate import autocast
from adapters.training.optim import optimizer_of
from adapters.training.peers import ALONE, Peers
from adapters.training.telemetry import Stopwatch
from adapters.warm import Pixels

COMPILE_BACKEND = "inductor"
"""What `train.compile` compiles with."""


@dataclass(frozen=True)
class EpochFit:
    """One training epoch: running loss and accuracy over its images, as they were trained on."""

    loss: float
    top1: float
    """Of a mixed image, the label that weighs more is the right one."""
    lr: float
    """The last step's learning rate, of the adapter's parameters, before `layer_decay`."""
    grad_norm: float | None
    """Mean over steps of the L2 norm of all gradients, before any clipping. Steps whose gradients
    overflowed in fp16 changed no weight and do not count; None where all did."""
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
    overflowed: int = 0
    """Steps that `grad_norm` has no number of, since gradients in fp16 were too large."""
    seconds: float = 0.0


class Fitter:
    """Optimiser, schedule, batch order and step hooks of one run.

    `micro_batch` images at most go through the model at once; a step adds up the gradients of its
    batch, of which each of the `peers` has a part. The result is the whole batch's but for rounding, and
    for dropout and drop path, whose masks differ. Raises ValueError where a step hook refuses a run of so
    many steps, where `drop_last` leaves no step, and for fp16 on a CPU or with a step hook.
    """

    def __init__(
        self,
        adapted: Adapted,
        images: Pixels,
        *,
        train: TrainConfig,
        seed: int,
        normalise: Callable[[Tensor], Tensor],
        micro_batch: int | None = None,
        peers: Peers = ALONE,
        model: nn.Module | None = None,
    ) -> None:
        """`model` is what images go through, where that is not the whole ViT."""
        self.underway = Underway()
        self._vit: nn.Module = adapted.vit if model is None else model
        self._forward: Callable[[Tensor], Tensor] = self._vit
        if train.compile:
            self._forward = torch.compile(self._vit, backend=COMPILE_BACKEND)
        self._parameters = list(adapted.trainable_parameters.values())
        self._images = images
        self._train = train
        self._seed = seed
        self._normalise = normalise
        self._micro_batch = train.batch_size if micro_batch is None else micro_batch
        self._peers = peers
        self.optimizer = optimizer_of(adapted, train)
        self._peak_lr = [group["lr"] for group in self.optimizer.param_groups]
        self._steps_per_epoch = train.steps_per_epoch(len(images))
        self.images_per_epoch = min(len(images), self._steps_per_epoch * train.batch_size)
        self._hooks = list(adapted.step_hooks.values())
        self.scaler = _scaler(train, images.pixels.device, has_hooks=bool(self._hooks))
        for hook in self._hooks:
            hook.before_run(self._steps_per_epoch * train.epochs)
        self._augment = Augment(train, seed)
        self.average = None
        if train.ema is not None:
            self.average = Average(adapted.trainable_parameters, train.ema)

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
        batches = torch.split(order, self._train.batch_size)[: self._steps_per_epoch]
        self._vit.train()
        sums, watch = self.underway, Stopwatch(device)
        try:
            self._steps_of(epoch, batches, on_step)
        except StopRequested:
            sums.seconds += watch.lap()
            raise
        sums.seconds += watch.lap()
        self.underway = Underway()
        taken = len(batches) - sums.overflowed
        first = self.optimizer.param_groups[0]
        return EpochFit(
            loss=sums.loss / self.images_per_epoch,
            top1=sums.correct / self.images_per_epoch,
            lr=first["lr"] / first["layer_scale"],
            grad_norm=sums.grad_norm / taken if taken else None,
            seconds=sums.seconds,
        )

    def _steps_of(
        self, epoch: int, batches: Sequence[Tensor], on_step: Callable[[int, int], None]
    ) -> None:
        sums = self.underway
        for index in range(sums.step, len(batches)):
            step = (epoch - 1) * self._steps_per_epoch + index
            scale = schedules.factor_of(self._train, step, self._steps_per_epoch)
            for group, peak in zip(self.optimizer.param_groups, self._peak_lr, strict=True):
                group["lr"] = peak * scale
            self.optimizer.zero_grad(set_to_none=True)

            def add(index: int = index) -> tuple[float, int]:
                on_step(index, len(batches))
                return self._add_gradients(batches[index], epoch, index)

            parts = self._peers.gather("step", add)
            value, correct = sum(part[0] for part in parts), sum(part[1] for part in parts)
            self._peers.sum_gradients(self._parameters)
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"loss is {value} at epoch {epoch}, step {index + 1} of {len(batches)}, "
                    f"learning rate {self._peak_lr[0] * scale:.3g}"
                )
            self._update()
            for hook in self._hooks:
                hook.after_step(step)
            if self.average is not None:
                self.average.update()
            sums.loss += value * len(batches[index])
            sums.correct += correct
            sums.step += 1

    def _update(self) -> None:
        """Take one step of the optimiser with the gradients that are there; add their norm up."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._train.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._train.clip_grad_norm, norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if not torch.isfinite(norm):
                self.underway.overflowed += 1
                return
        self.underway.grad_norm += float(norm)

    def _add_gradients(self, batch_B: Tensor, epoch: int, index: int) -> tuple[float, int]:
        """Go forward and backward over this process's images of `batch_B`.

        Returns what they add to its mean loss, and how many were right. Each micro-batch weighs as much
        as it has images, so a short last one weighs less.
        """
        value, correct = 0.0, 0
        size = self._images.pixels.shape[-1]
        mix = mixing.draw(self._train, size, seed=self._seed, epoch=epoch, step=index)
        # Partners are those of the effective batch, whatever goes through the model at once.
        peers = self._peers
        own, partners_of_own = (
            torch.split(images.tensor_split(peers.size)[peers.rank], self._micro_batch)
            for images in (batch_B, batch_B.roll(-1))
        )
        for part_M, partner_M in zip(own, partners_of_own, strict=True):
            if not len(part_M):  # of a batch with fewer images than processes
                continue
            weight = len(part_M) / len(batch_B)
            x_M3SS = self._inputs(part_M, epoch)
            if mix is not None:
                x_M3SS = mix.images(x_M3SS, self._inputs(partner_M, epoch))
            labels_M = self._images.labels[part_M]
            with autocast(labels_M.device, self._train.precision):
                logits_MC = self._forward(x_M3SS)
            loss = self._loss(logits_MC, labels_M)
            if mix is not None:
                others_M = self._images.labels[partner_M]
                # Cross-entropy is linear in the label, so this is that of the mixed label.
                loss = mix.ratio * loss + (1.0 - mix.ratio) * self._loss(logits_MC, others_M)
                labels_M = mix.heavier(labels_M, others_M)
            value += float(loss.detach()) * weight
            correct += int((logits_MC.argmax(1) == labels_M).sum())
            loss = loss * weight
            torch.autograd.backward(loss if self.scaler is None else self.scaler.scale(loss))
        return value, correct

    def _inputs(self, part_M: Tensor, epoch: int) -> Tensor:
        """The images of these indices (M,), augmented and normalised: (M, 3, S, S)."""
        pixels_M3SS = self._images.pixels[part_M]
        if not self._augment.is_on:
            return self._normalise(pixels_M3SS)
        indices = part_M.tolist()
        augmented_M3SS = self._normalise(self._augment.pixels(pixels_M3SS, epoch, indices))
        return self._augment.erase(augmented_M3SS, epoch, indices)

    def _loss(self, logits_MC: Tensor, labels_M: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits_MC.float(), labels_M, label_smoothing=self._train.label_smoothing
        )


def _scaler(
    train: TrainConfig, device: torch.device, *, has_hooks: bool
) -> torch.amp.GradScaler | None:
    """What scales the loss of an fp16 run, and skips steps whose gradients overflow."""
    if train.precision != "fp16":
        return None
    if device.type != "cuda":
        raise ValueError(f"precision: 'fp16' given on {device.type}, allowed: fp32, bf16")
    if has_hooks:
        raise ValueError(
            "precision: 'fp16' given for a method that reads the gradients of every step, which "
            "fp16 may skip; allowed: fp32, bf16"
        )
    return torch.amp.GradScaler(device.type)
