"""Augmentation of training images, batched on the run's device.

What happens to an image follows from (seed, epoch, its index) alone, so neither micro-batches nor a
resumed run change it. Images are the resized ones of `adapters.warm`: a random crop is taken from a
square image and brought back to its size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from adapters.spec import TrainConfig
from adapters.training import randaugment, seeding

_RATIOS = (3 / 4, 4 / 3)
"""Width by height of random crops."""
_CROP_TRIES = 10
_ERASED = (0.02, 1 / 3)
"""Share of the area that a noise rectangle covers."""
_ERASED_RATIOS = (0.3, 1 / 0.3)
"""Height by width of it."""


class Augment:
    """The augmentation of one run. Without any setting of it, images pass through as they are."""

    def __init__(self, train: TrainConfig, seed: int) -> None:
        self._train = train
        self._seed = seed
        self.is_on = bool(
            train.flip or train.vflip or train.random_crop or train.randaugment or train.erasing
        )

    def pixels(self, pixels_B3SS: Tensor, epoch: int, indices: Sequence[int]) -> Tensor:
        """Crop, mirror and recolour uint8 images of these indices; float images of 0 to 255 come out."""
        train = self._train
        rngs = self._rngs("augment", epoch, indices)
        x_B3SS = pixels_B3SS.float()
        if train.random_crop is not None:
            crops = [random_crop(rng, train.random_crop) for rng in rngs]
            x_B3SS = crop(x_B3SS, crops).clamp_(0.0, 255.0)
        for wanted, axis in ((train.flip, -1), (train.vflip, -2)):
            if wanted:
                mirrored = torch.tensor([rng.random() < 0.5 for rng in rngs])
                x_B3SS = torch.where(
                    mirrored.to(x_B3SS.device)[:, None, None, None], x_B3SS.flip(axis), x_B3SS
                )
        if train.randaugment:
            x_B3SS = randaugment.apply(
                x_B3SS, rngs, magnitude=train.randaugment, ops=train.randaugment_ops
            )
        return x_B3SS

    def erase(self, x_B3SS: Tensor, epoch: int, indices: Sequence[int]) -> Tensor:
        """Random erasing (arXiv:1708.04896) of normalised images, in place: rectangles of N(0, 1)."""
        if not self._train.erasing:
            return x_B3SS
        for row, rng in enumerate(self._rngs("erase", epoch, indices)):
            if rng.random() >= self._train.erasing:
                continue
            top, bottom, left, right = _rectangle(rng, x_B3SS.shape[-1])
            noise = torch.randn(
                (3, bottom - top, right - left),
                generator=seeding.generator(self._seed, "noise", epoch, indices[row]),
            )
            x_B3SS[row, :, top:bottom, left:right] = noise.to(x_B3SS.device)
        return x_B3SS

    def _rngs(self, purpose: str, epoch: int, indices: Sequence[int]) -> list[random.Random]:
        return [seeding.plain(self._seed, purpose, epoch, i) for i in indices]


def random_crop(rng: random.Random, least: float) -> tuple[float, float, float, float]:
    """Centre (x, y) and size (width, height) of a crop, in shares of the image's side.

    Its area is uniform from `least` to 1 and its ratio log-uniform from 3:4 to 4:3. Shapes that do
    not fit are drawn again, ten times at most; then it is the whole image.
    """
    for _ in range(_CROP_TRIES):
        area = rng.uniform(least, 1.0)
        ratio = math.exp(rng.uniform(*map(math.log, _RATIOS)))
        width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if width <= 1 and height <= 1:
            x = rng.uniform(width / 2, 1 - width / 2)
            y = rng.uniform(height / 2, 1 - height / 2)
            return x, y, width, height
    return 0.5, 0.5, 1.0, 1.0


def crop(x_B3SS: Tensor, crops: Sequence[tuple[float, float, float, float]]) -> Tensor:
    """The crops, as `random_crop` gives them, of the images, bicubic, at the images' own size."""
    theta_B23 = torch.tensor(
        [[[w, 0.0, 2 * x - 1], [0.0, h, 2 * y - 1]] for x, y, w, h in crops], device=x_B3SS.device
    )
    grid_BSS2 = functional.affine_grid(theta_B23, list(x_B3SS.shape), align_corners=False)
    return functional.grid_sample(
        x_B3SS, grid_BSS2, mode="bicubic", padding_mode="border", align_corners=False
    )


def _rectangle(rng: random.Random, size: int) -> tuple[int, int, int, int]:
    """Rows and columns of a noise rectangle; one that is too long is cut to the image's side."""
    area = rng.uniform(*_ERASED) * size**2
    ratio = math.exp(rng.uniform(*map(math.log, _ERASED_RATIOS)))
    height = min(size, max(1, round(math.sqrt(area * ratio))))
    width = min(size, max(1, round(math.sqrt(area / ratio))))
    top, left = rng.randint(0, size - height), rng.randint(0, size - width)
    return top, top + height, left, left + width
