"""What one trial is: the complete science of one run, as frozen dataclasses and as plain JSON.

The canonical JSON made here is what a run's identity is hashed over (`suites.spec`) and what the
result tables keep as `spec`. Two rules keep identities stable over releases:

* every field is in it, whatever a suite spelled out and whatever came from a default;
* a field that is added later declares ``metadata={"neutral": value}`` and is left out while it has
  that value.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

TRAINING_SEMANTICS = 1
"""Bumped when the training code may give other numbers for the same spec."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe of one run: optimiser, schedule, length, and how the reported epoch is chosen."""

    epochs: int = 5
    batch_size: int = 64
    """Images per optimiser step (the effective batch). The short last batch is kept and weighs less."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    head_lr: float | None = None
    """Learning rate of the classification head; None means `lr`."""
    weight_decay: float = 1e-4
    """Applied to every trained tensor but those that a method names in `no_decay`."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Per step, from `lr` to 0 (constant: not at all), after the warm-up."""
    warmup_epochs: float = 0.0
    """Linear warm-up from 0, in epochs; fractions are allowed."""
    label_smoothing: float = 0.0
    head_init: Literal["default", "zero", "class_means"] = "default"
    """`default` is torch's Linear initialisation drawn from the run's seed; `class_means` classifies by the
    nearest mean of the frozen backbone's features of the training images: see `adapters.heads`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` is autocast; weights and optimiser stay in float32."""
    fit: Literal["train", "train+val"] = "train"
    """What is trained on. `train+val` leaves nothing to select on: it needs `last_epoch`."""
    select_epoch: Literal["best_val", "last_epoch", "oracle_test"] = "best_val"
    """The epoch whose weights are scored. `oracle_test` looks at the test set: the cheat, by name."""
    score: Literal["test", "none"] = "test"
    """Whether the test set is scored at the end; tuning cells never do."""

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        at_least(0, lr=self.lr, weight_decay=self.weight_decay, warmup_epochs=self.warmup_epochs)
        if self.head_lr is not None:
            at_least(0, head_lr=self.head_lr)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing: {self.label_smoothing} given, allowed: 0 <= x < 1")
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs} given, allowed: at most epochs ({self.epochs})"
            )
        if self.fit == "train+val" and self.select_epoch != "last_epoch":
            raise ValueError(
                f"select_epoch: {self.select_epoch!r} given with fit: train+val, which leaves no "
                "validation images; allowed: last_epoch"
            )
        if self.score == "none" and self.select_epoch == "oracle_test":
            raise ValueError(
                "select_epoch: 'oracle_test' given with score: none, which scores no test set"
            )

    def steps(self, dataset_config: Any) -> int:
        """Optimiser steps of a run on the data set with these settings; nothing is loaded."""
        images: int = dataset_config.train
        if self.fit == "train+val":
            images += dataset_config.val
        return self.epochs * math.ceil(images / self.batch_size)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One run, resolved: nothing here depends on where it runs or what it is called."""

    backbone: str
    """A packaged backbone's short name or a timm model name."""
    dataset: str
    dataset_config: Any
    """The `Config` of the data set's module."""
    method: str
    method_config: Any
    """The `Config` of the method's module."""
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0


def at_least(minimum: float, **values: float) -> None:
    """Raise ValueError naming the first keyword whose value is below `minimum`, infinite or nan."""
    for name, value in values.items():
        if not value >= minimum or value == float("inf"):
            raise ValueError(
                f"{name}: {value} given, allowed: a finite number of at least {minimum}"
            )


def one_of(name: str, value: object, allowed: typing.Iterable[object]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} given, allowed: {', '.join(map(str, allowed))}")


def to_plain(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON values, tuples as lists, fields at their neutral value left out."""
    plain: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if "neutral" in item.metadata and value == item.metadata["neutral"]:
            continue
        plain[item.name] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def from_plain(cls: type[T], plain: Mapping[str, Any]) -> T:
    """The inverse of `to_plain`: lists become tuples, nested mappings the field's own dataclass.

    Values are trusted to have the right types: they were validated when the suite was loaded. A
    missing field takes its neutral value or default; an unknown one is the dataclass's TypeError.
    """
    hints = typing.get_type_hints(cls)
    neutral = {
        item.name: item.metadata["neutral"]
        for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        if "neutral" in item.metadata
    }
    return cls(**neutral | {name: _typed(hints.get(name), value) for name, value in plain.items()})


def _typed(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        for option in options(hint):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                return from_plain(option, value)
        return dict(value)
    if isinstance(value, list):
        return tuple(_typed(None, item) for item in value)
    return value


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)
