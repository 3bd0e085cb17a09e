"""Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899): pairs of images, with labels to match.

Image i of an effective batch is paired with image i + 1, the last with the first. One ratio and one
rectangle hold for the whole batch and follow from (seed, epoch, step) alone, so a batch that is split
into micro-batches, or resumed, is mixed the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.spec import TrainConfig
from adapters.training import seeding


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How one effective batch is mixed."""

    ratio: float
    """Weight of an image's own label, from 0 to 1; its partner's has the rest."""
    box: tuple[int, int, int, int] | None
    """Rows and columns (top, bottom, left, right) that come from the partner; None is mixup."""

    def images(self, own_B3SS: Tensor, partner_B3SS: Tensor) -> Tensor:
        """The mixed images, (B, 3, S, S) in and out; what is given is not changed."""
        if self.box is None:
            return torch.lerp(partner_B3SS, own_B3SS, self.ratio)
        top, bottom, left, right = self.box
        mixed_B3SS = own_B3SS.clone()
        mixed_B3SS[..., top:bottom, left:right] = partner_B3SS[..., top:bottom, left:right]
        return mixed_B3SS

    def heavier(self, own_B: Tensor, partner_B: Tensor) -> Tensor:
        """The labels (B,) of the images that make up more of each mixed one."""
        return own_B if self.ratio >= 0.5 else partner_B


def draw(train: TrainConfig, size: int, *, seed: int, epoch: int, step: int) -> Mix | None:
    """How the batch at `step` of `epoch` is mixed, its images `size` pixels wide; None leaves it."""
    alphas = {"mixup": train.mixup, "cutmix": train.cutmix}
    kinds = [kind for kind, alpha in alphas.items() if alpha]
    if not kinds:
        return None
    rng = seeding.plain(seed, "mix", epoch, step)
    if rng.random() >= train.mix_prob:
        return None
    kind = kinds[int(rng.random() * len(kinds))]
    ratio = rng.betavariate(alphas[kind], alphas[kind])
    if kind == "mixup":
        return Mix(ratio=ratio, box=None)
    half = math.sqrt(1.0 - ratio) / 2.0
    box: list[int] = []
    for centre in (rng.random(), rng.random()):
        box += [round(max(0.0, centre - half) * size), round(min(1.0, centre + half) * size)]
    top, bottom, left, right = box
    # The border cuts rectangles off, so the ratio is what is left.
    return Mix(
        ratio=1.0 - (bottom - top) * (right - left) / size**2, box=(top, bottom, left, right)
    )
