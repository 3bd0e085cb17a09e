"""The adapted model of a run before its first step: backbone, drop path, head, method."""

from __future__ import annotations

import torch
from torch import nn

from adapters import heads, registry
from adapters.adapted import Adapted, adapt
from adapters.spec import TrialSpec
from adapters.training import seeding
from adapters.training.evaluate import Normalise
from adapters.warm import Prepared, Warm


def build(spec: TrialSpec, classes: int, warm: Warm) -> Adapted:
    """The adapted model of a run before its first step.

    Raises ValueError where the backbone has no place for drop path or the method refuses it.
    """
    vit = warm.backbone(spec.backbone)
    # What a method or dropout draws from the global generators depends on this run's seed alone.
    torch.manual_seed(seeding.derive(spec.seed, "global"))
    heads.new_head(vit, spec, classes)
    if spec.train.drop_path:
        set_drop_path(vit, spec.train.drop_path)
    vit.to(warm.device)
    return adapt(
        vit,
        spec.method,
        spec.method_config,
        seeding.generator(
            spec.seed, "adapter", spec.method, registry.method(spec.method).SEMANTICS
        ),
    )


def set_drop_path(vit: nn.Module, rate: float) -> None:
    """Stochastic depth (arXiv:1603.09382) in both branches of each block of `vit`, in place.

    The rate rises evenly from 0 in the first block to `rate` in the last. Raises ValueError for
    blocks of another kind.
    """
    from timm.layers import DropPath

    blocks = list(vit.blocks)  # type: ignore[arg-type]
    for index, block in enumerate(blocks):
        if not (hasattr(block, "drop_path1") and hasattr(block, "drop_path2")):
            raise ValueError(
                f"drop_path: {rate} given on {type(block).__name__}, allowed: 0, or blocks with "
                "drop_path1 and drop_path2"
            )
        own = rate * index / max(1, len(blocks) - 1)
        for branch in ("drop_path1", "drop_path2"):
            setattr(block, branch, DropPath(own) if own else nn.Identity())


def start_head(
    vit: nn.Module, spec: TrialSpec, data: Prepared, warm: Warm, normalise: Normalise
) -> None:
    """Set the head of `vit` from the training images, where `train.head_init` says so."""
    if spec.train.head_init == "class_means":
        images, frozen = data.train, warm.frozen(spec.backbone)
        heads.set_class_means(vit.head, frozen, images.pixels, images.labels, normalise)  # type: ignore[arg-type]
