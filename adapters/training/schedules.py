"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math


def factor(schedule: str, step: int, steps: int, warmup_steps: int) -> float:
    """What `lr` is multiplied by at `step` (from 0) of `steps`.

    Warm-up rises linearly to 1 at step `warmup_steps`; then cosine or linear decay reaches 0 at
    `steps`, one step after the last.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ValueError(f"schedule: {schedule!r} given, allowed: cosine, linear, constant")
