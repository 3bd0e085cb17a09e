"""Data sets that trained models are scored on and that nothing is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters.data.contract import Member, Part
from adapters.spec import at_least


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How many images are scored."""

    train: int = 0
    """Nothing is trained on them; the field is there since every data set has it."""
    val: int = 0
    test: int | None = None
    """None means all; a larger number contains the images of a smaller one."""

    def __post_init__(self) -> None:
        for name, given in (("train", self.train), ("val", self.val)):
            if given != 0:
                raise ValueError(f"{name}: {given} given, allowed: 0, as it is only scored on")
        if self.test is not None:
            at_least(1, test=self.test)


@dataclass(frozen=True)
class EvaluationSet(Member):
    """A member whose `load` raises ValueError: it has no train and no val, and `evaluation` reads it."""

    evaluation: Callable[[EvaluationConfig], Part]
    """Gives the images; their labels are 0 to `CLASSES` - 1."""
    CLASS_SUBSET: tuple[int, ...] | None
    """Label i means output CLASS_SUBSET[i] of the model, and the other outputs are left out before the
    loss and the accuracy; None where labels are the outputs themselves. Increasing."""
    TRAINED_CLASSES: int
    """How many outputs the model must have."""
