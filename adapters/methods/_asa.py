"""ASA, adaptive subspace allocation: a training run freezes the subspaces that matter least.

Once per optimiser step s in the window t0 <= s <= t1, for each element p with gradient g of each
subspace that still trains (the averages start at 0, and the mean deviation uses the importance from
before the step):

    I = |p g|    U <- beta2 U + (1 - beta2) |I - M|    M <- beta1 M + (1 - beta1) I

At the steps of the window that the interval q divides, the floor(target + (total - target) c^e)
best subspaces go on training, c = 1 - (s - t0) / (t1 - t0), and the averages start again. The score
of a subspace is the mean of M U over its A plus that over its B; of equals the first is kept. A
frozen subspace keeps its values, goes on contributing and never trains again.

AdaMSS, NeurIPS 2025. Different from its released code: exactly as many are kept as the schedule
says (there one fewer, and fewer still at ties).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from adapters.methods._settings import check_positive
from adapters.methods._whole_numbers import check_sizes
from adapters.spec import one_of

Subspace = tuple[nn.Parameter, nn.Parameter]
"""A and B."""


@dataclass(frozen=True)
class Schedule:
    """When subspaces are frozen in one run: steps from 0."""

    first: int
    last: int
    interval: int
    exponent: float

    def budget(self, step: int, total: int, target: int) -> int:
        """How many of `total` subspaces train after a mask at `step`."""
        left = min(max(1 - (step - self.first) / (self.last - self.first), 0.0), 1.0)
        return math.floor(target + (total - target) * math.pow(left, self.exponent))


@dataclass(frozen=True, kw_only=True)
class Asa:
    """Settings of ASA. Its three times are numbers of steps or, below 1, fractions of the run."""

    target_subspaces: int = 50
    """How many go on training at the end."""
    scope: Literal["global", "per_matrix"] = "global"
    """Whether the target is the whole model's or that of each adapted matrix."""
    init_warmup: float = 50
    """t0, the first step that counts."""
    final_warmup: float = 1000
    """t1, the last one. The last mask falls on the last multiple of `mask_interval` up to it; a
    fraction is rounded to such a multiple, so that the target is reached."""
    mask_interval: float = 100
    """q, the steps between two masks."""
    importance_beta: float = 0.85
    """How much of the mean importance stays at each step."""
    uncertainty_beta: float = 0.85
    """The same of the mean uncertainty, the distance of the importance from its mean."""
    schedule_exponent: float = 3.0
    """e: the larger, the earlier most subspaces freeze."""

    def __post_init__(self) -> None:
        check_sizes(target_subspaces=self.target_subspaces)
        one_of("scope", self.scope, ("global", "per_matrix"))
        for name, least in (("init_warmup", 0), ("final_warmup", 1), ("mask_interval", 1)):
            object.__setattr__(self, name, _time(name, getattr(self, name), least))
        for name in ("importance_beta", "uncertainty_beta"):
            beta = getattr(self, name)
            if isinstance(beta, bool) or not 0 <= beta < 1:
                raise ValueError(f"{name}: {beta!r} given, allowed: 0 <= x < 1")
        check_positive(schedule_exponent=self.schedule_exponent)
        same_unit = isinstance(self.init_warmup, float) == isinstance(self.final_warmup, float)
        if same_unit and self.init_warmup >= self.final_warmup:
            raise ValueError(
                f"init_warmup: {self.init_warmup} given, allowed: less than final_warmup "
                f"({self.final_warmup})"
            )
        if isinstance(self.mask_interval, float) and not isinstance(self.final_warmup, float):
            raise ValueError(
                f"mask_interval: {self.mask_interval} given with final_warmup "
                f"{self.final_warmup}, allowed: fractions of the run for both, or steps"
            )

    def schedule(self, steps: int) -> Schedule:
        """The schedule in a run of `steps` steps.

        Raises ValueError where a mask would fall behind the run or none would freeze anything.
        """
        interval = _of_run(self.mask_interval, steps, least=1)
        last = int(self.final_warmup)
        if isinstance(self.final_warmup, float):
            masks = max(1, round(self.final_warmup * steps / interval))
            last = interval * min(masks, (steps - 1) // interval)
        last_mask = last // interval * interval
        first = _of_run(self.init_warmup, steps, least=0)
        if interval >= steps:
            raise ValueError(
                f"asa.mask_interval: {self.mask_interval} given for a run of {steps} steps, "
                f"allowed: less than {steps}, or a fraction of the run"
            )
        if last_mask >= steps:
            raise ValueError(
                f"asa.final_warmup: {self.final_warmup} given, with the last mask at step "
                f"{last_mask} of a run of {steps} steps (from 0), allowed: a last mask at step "
                f"{steps - 1} or before, or a fraction of the run, as in 0.8"
            )
        if first >= last_mask:
            raise ValueError(
                f"asa.init_warmup: {self.init_warmup} given, which is step {first} of a run of "
                f"{steps} steps, allowed: a step before the last mask, which is at step {last_mask}"
            )
        return Schedule(first, last, interval, self.schedule_exponent)

    def check_target(self, matrices: Sequence[int]) -> None:
        """Raise ValueError where matrices of so many subspaces each are too few for the target."""
        most = sum(matrices) if self.scope == "global" else min(matrices)
        if self.target_subspaces > most:
            where = "in the model" if self.scope == "global" else "in each matrix"
            raise ValueError(
                f"asa.target_subspaces: {self.target_subspaces} given, "
                f"allowed: at most the {most} subspaces {where}"
            )


class Subspaces(Protocol):
    """What holds subspaces."""

    def subspaces(self) -> list[list[Subspace]]:
        """The subspaces of each adapted matrix."""


class Allocation(nn.Module):
    """The state of ASA in one model, and the step hook that the training loop calls.

    The averages are one vector over all elements of all subspaces, A before B. Neither they nor
    `active` (S,) are saved with a model; `hook_state` has them for a checkpoint.
    """

    importance: Tensor
    uncertainty: Tensor
    active: Tensor

    def __init__(self, config: Asa, holders: Sequence[Subspaces]) -> None:
        super().__init__()
        self.config = config
        self._schedule: Schedule | None = None
        # In a tuple, so that their own places in the ViT alone register them.
        self._holders = tuple(holders)
        self._matrices = [len(matrix) for each in holders for matrix in each.subspaces()]
        config.check_target(self._matrices)
        for name in ("importance", "uncertainty"):
            self.register_buffer(name, torch.zeros(0), persistent=False)
        active_S = torch.ones(sum(self._matrices), dtype=torch.bool)
        self.register_buffer("active", active_S, persistent=False)

    @property
    def active_subspaces(self) -> int:
        """How many subspaces still train."""
        return int(self.active.sum())

    def before_run(self, steps: int) -> None:
        """Make the schedule for a run of `steps` steps and start the averages; see `Asa.schedule`."""
        self._schedule = self.config.schedule(steps)
        tensors = self._tensors()
        self.importance = tensors[0].new_zeros(sum(tensor.numel() for tensor in tensors))
        self.uncertainty = torch.zeros_like(self.importance)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Gather importance, and at the steps of the schedule freeze."""
        schedule = self._schedule
        assert schedule is not None, "before_run comes first"
        if not schedule.first <= step <= schedule.last:
            return
        tensors = self._tensors()
        gradients = [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors]
        now = (_flat(tensors) * _flat(gradients)).abs_()
        beta1, beta2 = self.config.importance_beta, self.config.uncertainty_beta
        self.uncertainty.mul_(beta2).add_((now - self.importance).abs_(), alpha=1 - beta2)
        self.importance.mul_(beta1).add_(now, alpha=1 - beta1)
        if step % schedule.interval == 0:
            self._mask(schedule, step)
            self.importance.zero_()
            self.uncertainty.zero_()

    def hook_state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the trained tensors to go on as if never interrupted."""
        return {
            name: getattr(self, name).clone() for name in ("importance", "uncertainty", "active")
        }

    def load_hook_state(self, state: dict[str, Tensor]) -> None:
        """Take `hook_state` over, after `before_run`; what was frozen then is frozen again."""
        for name in ("importance", "uncertainty", "active"):
            getattr(self, name).copy_(state[name])
        self._apply_active()

    def scores(self) -> list[float]:
        """What each subspace scores by the present averages."""
        product = self.importance * self.uncertainty
        pieces = torch.split(product, [tensor.numel() for tensor in self._tensors()])
        means = torch.stack([piece.mean() for piece in pieces])
        return [float(score) for score in means.reshape(-1, 2).sum(1)]

    def _mask(self, schedule: Schedule, step: int) -> None:
        scores, active = self.scores(), self.active.tolist()
        is_global = self.config.scope == "global"
        start = 0
        for total in [len(active)] if is_global else self._matrices:
            budget = schedule.budget(step, total, self.config.target_subspaces)
            competing = [at for at in range(start, start + total) if active[at]]
            best_first = sorted(competing, key=lambda at: -scores[at])  # stable: ties by order
            for at in best_first[budget:]:
                active[at] = False
            start += total
        self.active.copy_(torch.tensor(active))
        self._apply_active()

    def _apply_active(self) -> None:
        pairs = [pair for each in self._holders for matrix in each.subspaces() for pair in matrix]
        for pair, trains in zip(pairs, self.active.tolist(), strict=True):
            for tensor in pair:
                tensor.requires_grad_(trains)
                if not trains:
                    tensor.grad = None

    def _tensors(self) -> list[nn.Parameter]:
        """A and B of every subspace in turn."""
        return [
            tensor
            for each in self._holders
            for matrix in each.subspaces()
            for pair in matrix
            for tensor in pair
        ]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _time(name: str, value: float, least: int) -> float:
    """A whole number of steps as an int, so that 50 and 50.0 are one run; a fraction as it is."""
    if not isinstance(value, bool) and value == value // 1 and least <= value < math.inf:
        return int(value)
    if isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(
            f"{name}: {value!r} given, allowed: a whole number of steps of at least {least}, "
            "or a fraction of the run between 0 and 1"
        )
    return value


def _of_run(time: float, steps: int, *, least: int) -> int:
    """A time in steps."""
    return max(least, round(time * steps)) if isinstance(time, float) else int(time)
