"""Corruptions of images in five severities, made and not downloaded.

Those of ImageNet-C that need no files of their own (Hendrycks, Dietterich 2019, arXiv:1903.12261), with its
constants. They act on the images as the network gets them, before normalisation, as there; lengths in
pixels are for 224 and scale with the side. Noise is drawn from (name, severity, index of the image), so
every run sees the same images.

Shape suffixes: N images, S side.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adapters.spec import one_of
from adapters.training import seeding

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 224


def corrupt(pixels_N3SS: Tensor, name: str, severity: int) -> Tensor:
    """uint8 (N, 3, S, S) -> the same shape and type; ValueError for an unknown name or severity."""
    one_of("corruption", name, NAMES)
    one_of("severity", severity, SEVERITIES)
    made = [
        _KINDS[name](image.cpu().float() / 255.0, severity - 1, _generator(name, severity, index))
        for index, image in enumerate(pixels_N3SS)
    ]
    out_N3SS = torch.stack(made).mul_(255.0).round_().clamp_(0, 255)
    return out_N3SS.to(torch.uint8).to(pixels_N3SS.device)


def _generator(name: str, severity: int, index: int) -> torch.Generator:
    return seeding.generator(0, "corruption", name, severity, index)


def _gaussian_noise(image_3SS: Tensor, at: int, generator: torch.Generator) -> Tensor:
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[at]
    return image_3SS + deviation * torch.randn(image_3SS.shape, generator=generator)


def _shot_noise(image_3SS: Tensor, at: int, generator: torch.Generator) -> Tensor:
    photons = (60.0, 25.0, 12.0, 5.0, 3.0)[at]
    return torch.poisson(image_3SS * photons, generator=generator) / photons


def _gaussian_blur(image_3SS: Tensor, at: int, _: torch.Generator) -> Tensor:
    side = image_3SS.shape[-1]
    sigma = (1.0, 2.0, 3.0, 4.0, 6.0)[at] * side / _SIDE
    reach = min(max(1, math.ceil(4 * sigma)), side - 1)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    blurred = functional.pad(image_3SS[None], (reach,) * 4, mode="reflect")
    for shape in ((3, 1, 1, -1), (3, 1, -1, 1)):
        blurred = functional.conv2d(blurred, kernel.repeat(3).view(shape), groups=3)
    return blurred[0]


def _contrast(image_3SS: Tensor, at: int, _: torch.Generator) -> Tensor:
    kept = (0.4, 0.3, 0.2, 0.1, 0.05)[at]
    mean_311 = image_3SS.mean(dim=(1, 2), keepdim=True)
    return (image_3SS - mean_311) * kept + mean_311


def _brightness(image_3SS: Tensor, at: int, _: torch.Generator) -> Tensor:
    """Raise the V of HSV, which keeps hue and saturation: all channels grow by the factor V grows by."""
    added = (0.1, 0.2, 0.3, 0.4, 0.5)[at]
    value_1SS = image_3SS.max(dim=0, keepdim=True).values
    raised_1SS = (value_1SS + added).clamp(max=1.0)
    return torch.where(
        value_1SS > 0, image_3SS * raised_1SS / value_1SS.clamp(min=1e-6), raised_1SS
    )


def _jpeg(image_3SS: Tensor, at: int, _: torch.Generator) -> Tensor:
    from PIL import Image

    pixels_SS3 = (image_3SS * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels_SS3).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[at])
    with Image.open(file) as decoded:
        back_SS3 = np.asarray(decoded.convert("RGB"))
    return torch.from_numpy(back_SS3.copy()).permute(2, 0, 1).float() / 255.0


_KINDS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "gaussian_blur": _gaussian_blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "jpeg": _jpeg,
}
NAMES = tuple(_KINDS)
