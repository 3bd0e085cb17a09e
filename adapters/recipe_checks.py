"""What a recipe's settings may be: the checks of `TrainConfig`, and those that every config uses."""

from __future__ import annotations

import typing
from collections.abc import Iterable

if typing.TYPE_CHECKING:
    from adapters.spec import TrainConfig


def at_least(minimum: float, **values: float) -> None:
    """Raise ValueError naming the first keyword whose value is below `minimum`, infinite or nan."""
    for name, value in values.items():
        if not value >= minimum or value == float("inf"):
            raise ValueError(
                f"{name}: {value} given, allowed: a finite number of at least {minimum}"
            )


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} given, allowed: {', '.join(map(str, allowed))}")


def check(train: TrainConfig) -> None:
    """Raise ValueError naming the first setting of the recipe that is wrong, alone or beside others."""
    at_least(
        1,
        epochs=train.epochs,
        batch_size=train.batch_size,
        randaugment_ops=train.randaugment_ops,
        eval_every_epochs=train.eval_every_epochs,
    )
    if train.early_stopping is not None:
        at_least(1, early_stopping=train.early_stopping)
    at_least(
        0,
        lr=train.lr,
        weight_decay=train.weight_decay,
        min_lr=train.min_lr,
        warmup_epochs=train.warmup_epochs,
        mixup=train.mixup,
        cutmix=train.cutmix,
    )
    if train.head_lr is not None:
        at_least(0, head_lr=train.head_lr)
    if train.text_head is not None and train.head_init != "default":
        raise ValueError(f"head_init: {train.head_init} given, allowed: default with text_head")
    _shares(train)
    _schedule(train)
    _epochs(train)


def _shares(train: TrainConfig) -> None:
    for name in ("label_smoothing", "momentum", "drop_path"):
        value = getattr(train, name)
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {value} given, allowed: 0 <= x < 1")
    if not all(0 <= beta < 1 for beta in train.betas):
        raise ValueError(f"betas: {list(train.betas)} given, allowed: two numbers, 0 <= x < 1")
    for name in ("mix_prob", "erasing"):
        value = getattr(train, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: {value} given, allowed: 0 <= x <= 1")
    for name in ("layer_decay", "random_crop"):
        value = getattr(train, name)
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{name}: {value} given, allowed: 0 < x <= 1")
    if not 0 <= train.randaugment <= 10:
        raise ValueError(f"randaugment: {train.randaugment} given, allowed: 0 <= x <= 10")
    if train.ema is not None and not 0 < train.ema < 1:
        raise ValueError(f"ema: {train.ema} given, allowed: 0 < x < 1")
    if train.clip_grad_norm is not None and not 0 < train.clip_grad_norm < float("inf"):
        raise ValueError(
            f"clip_grad_norm: {train.clip_grad_norm} given, allowed: a finite number above 0"
        )


def _schedule(train: TrainConfig) -> None:
    if train.warmup_epochs > train.epochs:
        raise ValueError(
            f"warmup_epochs: {train.warmup_epochs} given, allowed: at most epochs ({train.epochs})"
        )
    if train.schedule_unit == "epoch" and train.warmup_epochs != int(train.warmup_epochs):
        raise ValueError(
            f"warmup_epochs: {train.warmup_epochs} given with schedule_unit: epoch, allowed: a "
            "whole number"
        )
    if train.schedule == "osu_cosine" and train.schedule_unit != "epoch":
        raise ValueError(
            f"schedule_unit: {train.schedule_unit!r} given with schedule: osu_cosine, allowed: epoch"
        )
    if train.min_lr > train.lr:
        raise ValueError(f"min_lr: {train.min_lr} given, allowed: at most lr ({train.lr})")
    if train.min_lr and train.schedule == "constant":
        raise ValueError(f"min_lr: {train.min_lr} given with schedule: constant, allowed: 0")
    if train.warmup_lr is not None and not 0 <= train.warmup_lr <= train.lr:
        raise ValueError(f"warmup_lr: {train.warmup_lr} given, allowed: from 0 to lr ({train.lr})")


def _epochs(train: TrainConfig) -> None:
    if train.fit == "train+val" and train.select_epoch != "last_epoch":
        raise ValueError(
            f"select_epoch: {train.select_epoch!r} given with fit: train+val, which leaves no "
            "validation images; allowed: last_epoch"
        )
    if train.fit == "train+val" and train.early_stopping is not None:
        raise ValueError(
            f"early_stopping: {train.early_stopping} given with fit: train+val, which leaves no "
            "validation images; allowed: null"
        )
    if train.score == "none" and train.select_epoch == "oracle_test":
        raise ValueError(
            "select_epoch: 'oracle_test' given with score: none, which scores no test set"
        )
