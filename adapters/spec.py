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
from functools import cache
from typing import Any, Literal, TypeVar

from adapters.preprocess import Preprocess
from adapters.recipe_checks import at_least as at_least
from adapters.recipe_checks import check
from adapters.recipe_checks import one_of as one_of
from adapters.text_embeddings import TextHeadConfig

TRAINING_SEMANTICS = 1
"""Bumped when the training code may give other numbers for the same spec."""

T = TypeVar("T")


def _added(value: Any) -> Any:
    """A field that came later: left out of the identity at `value`, its default."""
    return field(default=value, metadata={"neutral": value})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The recipe of one run: optimiser, schedule, length, and how the reported epoch is chosen."""

    epochs: int = 5
    batch_size: int = 64
    """Images per optimiser step (the effective batch). A short last batch is kept and weighs less."""
    drop_last: bool = _added(False)
    """Leave out the short last batch of every epoch instead."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: float = _added(0.9)
    """Of `sgd`."""
    betas: tuple[float, float] = _added((0.9, 0.999))
    """Of `adamw` and `adam`."""
    lr: float = 1e-3
    head_lr: float | None = None
    """Learning rate of the classification head; None means `lr`."""
    layer_decay: float = _added(1.0)
    """Per-layer factor of the rates: block k of L (from 0) takes layer_decay^(L - k), the stem and the
    tokens layer_decay^(L + 1), the final norm, the head and tensors that blocks share 1."""
    weight_decay: float = 1e-4
    """Applied to every trained tensor but those that a method names in `no_decay`."""
    decay: Literal["all", "no_bias_norm"] = _added("all")
    """`no_bias_norm` exempts biases and tensors of at most one dimension from weight decay too."""
    schedule: Literal["cosine", "linear", "constant", "osu_cosine"] = "cosine"
    """From `lr` to `min_lr` (constant: not at all), after the warm-up. `osu_cosine` is the per-epoch
    schedule of a study: one epoch late, and its cosine also counts the epochs of the warm-up."""
    schedule_unit: Literal["step", "epoch"] = _added("step")
    """How often the rate changes."""
    min_lr: float = _added(0.0)
    """What `lr` decays to; rates of other tensors keep their ratio to it."""
    warmup_epochs: float = 0.0
    """Linear warm-up, in epochs; fractions are allowed where `schedule_unit` is step."""
    warmup_lr: float | None = _added(None)
    """Rate at the start of the warm-up; None starts at lr / (steps of the warm-up + 1)."""
    clip_grad_norm: float | None = _added(None)
    """Largest L2 norm of all gradients together; None clips nothing."""
    label_smoothing: float = 0.0
    mixup: float = _added(0.0)
    """Alpha of mixup's Beta(alpha, alpha); 0 is off."""
    cutmix: float = _added(0.0)
    """Alpha of CutMix; 0 is off. With `mixup`, each mixed batch takes one of the two at even odds."""
    mix_prob: float = _added(1.0)
    """Share of the batches that are mixed."""
    flip: bool = _added(False)
    """Mirror every second training image, left to right, at random."""
    vflip: bool = _added(False)
    """The same, top to bottom."""
    random_crop: float | None = _added(None)
    """Random resized crop of at least this share of the area, sides 3:4 to 4:3, bicubic."""
    randaugment: float = _added(0.0)
    """Magnitude of RandAugment, up to 10; 0 is off."""
    randaugment_ops: int = _added(2)
    """Operations that RandAugment draws for an image."""
    erasing: float = _added(0.0)
    """Share of the training images in which a rectangle becomes noise."""
    drop_path: float = _added(0.0)
    """Stochastic depth: 0 in the first block, rising evenly to this rate in the last."""
    ema: float | None = _added(None)
    """Decay per step of an average of the trained weights, which is then scored and kept."""
    head_init: Literal["default", "zero", "trunc_normal", "class_means"] = "default"
    """`default` is torch's Linear initialisation drawn from the run's seed; `trunc_normal` has a
    standard deviation of 2e-5 and a bias of 0; `class_means` classifies by the nearest mean of the
    frozen backbone's features of the training images: see `adapters.heads`."""
    text_head: TextHeadConfig | None = field(default=None, metadata={"neutral": None})
    """A head that starts from text embeddings, in place of `head_init`: see `adapters.text_head`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """`bf16` and `fp16` are autocast; weights and optimiser stay in float32. `fp16` scales the loss
    and needs CUDA."""
    compile: bool = _added(False)
    """Train through `torch.compile`; evaluation is not compiled."""
    fit: Literal["train", "train+val"] = "train"
    """What is trained on. `train+val` leaves nothing to select on: it needs `last_epoch`."""
    eval_every_epochs: int = _added(1)
    """Epochs 1, 1 + n, 1 + 2n and so on are scored, and the last one."""
    early_stopping: int | None = _added(None)
    """Stop after this many scored epochs worse than the best validation top-1. An equal one counts as
    neither; a strictly better one starts the count again."""
    select_epoch: Literal["best_val", "last_epoch", "oracle_test"] = "best_val"
    """The epoch whose weights are scored. `oracle_test` looks at the test set: the cheat, by name."""
    score: Literal["test", "none"] = "test"
    """Whether the test set is scored at the end; tuning cells never do."""

    def __post_init__(self) -> None:
        check(self)

    def steps_per_epoch(self, images: int) -> int:
        """Optimiser steps of an epoch over so many images.

        Raises ValueError where `drop_last` leaves none.
        """
        if not self.drop_last:
            return math.ceil(images / self.batch_size)
        if images < self.batch_size:
            raise ValueError(
                f"batch_size: {self.batch_size} given with drop_last, allowed: at most the "
                f"{images} training images"
            )
        return images // self.batch_size

    def steps(self, dataset_config: Any) -> int:
        """Optimiser steps of a run on the data set with these settings; nothing is loaded.

        Raises ValueError as `steps_per_epoch`.
        """
        images: int = dataset_config.train
        if self.fit == "train+val":
            images += dataset_config.val
        return self.epochs * self.steps_per_epoch(images)


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
    preprocess: Preprocess = field(default_factory=Preprocess)


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
    hints = type_hints(cls)
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


def type_hints(cls: type[Any]) -> dict[str, Any]:
    """The declared types of a dataclass's fields."""
    return _type_hints(typing.cast(Any, cls))  # mypy takes no class for hashable


@cache
def _type_hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)
