"""Learning-rate schedules as pure functions of the position, counted in steps or in epochs."""

from __future__ import annotations

import math

from adapters.spec import TrainConfig


def factor(
    schedule: str,
    step: int,
    steps: int,
    warmup_steps: int,
    *,
    floor: float = 0.0,
    start: float | None = None,
) -> float:
    """What `lr` is multiplied by at `step` (from 0) of `steps`; a step may be an epoch.

    Warm-up rises linearly to 1 at step `warmup_steps`, from `start`, or if that is None from
    1 / (warmup_steps + 1); then cosine or linear decay reaches `floor` at `steps`, one step after
    the last. `osu_cosine` is one step late, and its cosine begins with the warm-up.
    """
    if schedule == "osu_cosine":
        step = max(step - 1, 0)
    if step < warmup_steps:
        if start is None:
            return (step + 1) / (warmup_steps + 1)
        return start + step * (1.0 - start) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return floor + (1.0 - floor) * (1.0 - progress)
        case "cosine":
            return floor + (1.0 - floor) * (0.5 * (1.0 + math.cos(math.pi * progress)))
        case "osu_cosine":
            return floor + (1.0 - floor) * (0.5 * (1.0 + math.cos(math.pi * step / steps)))
    raise ValueError(f"schedule: {schedule!r} given, allowed: cosine, linear, constant, osu_cosine")


def factor_of(train: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """What the rates of a run are multiplied by at `step`, counted from the run's beginning."""
    length = 1 if train.schedule_unit == "epoch" else steps_per_epoch
    at = step // steps_per_epoch if train.schedule_unit == "epoch" else step
    floor = train.min_lr / train.lr if train.lr else 0.0
    start = train.warmup_lr
    if start is not None:
        start = start / train.lr if train.lr else 0.0
    return factor(
        train.schedule,
        at,
        train.epochs * length,
        round(train.warmup_epochs * length),
        floor=floor,
        start=start,
    )
