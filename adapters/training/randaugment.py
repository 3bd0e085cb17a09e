"""RandAugment (arXiv:1909.13719), batched: each image takes operations of its own.

Fifteen operations in the "increasing" form, where a larger magnitude always changes more. An image
draws `ops` of them; each is done with probability 1/2, at a magnitude from N(`magnitude`, 0.5) within
0 to 10. Geometric operations are bilinear and fill with grey (128).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

PROBABILITY = 0.5
SPREAD = 0.5
"""Standard deviation of the magnitude."""
_GREY = 128.0
_LUMA = (0.299, 0.587, 0.114)

Op = Callable[[Tensor, Tensor], Tensor]
"""Images (B, 3, S, S) from 0 to 255 and strengths (B,), which may be signed, to images."""


def apply(x_B3SS: Tensor, rngs: Sequence[random.Random], *, magnitude: float, ops: int) -> Tensor:
    """RandAugment of float images (B, 3, S, S) from 0 to 255, the i-th by what `rngs[i]` draws."""
    for _ in range(ops):
        drawn: dict[str, list[tuple[int, float]]] = {}
        for row, rng in enumerate(rngs):
            name = rng.choice(NAMES)
            strength = min(10.0, max(0.0, rng.gauss(magnitude, SPREAD))) / 10.0
            sign = rng.choice((-1.0, 1.0))
            if rng.random() < PROBABILITY:
                drawn.setdefault(name, []).append((row, strength * sign))
        if drawn:
            x_B3SS = x_B3SS.clone()
        for name, changes in drawn.items():
            rows = torch.tensor([row for row, _ in changes], device=x_B3SS.device)
            strengths = torch.tensor([strength for _, strength in changes], device=x_B3SS.device)
            x_B3SS[rows] = OPS[name](x_B3SS[rows], strengths).clamp_(0.0, 255.0)
    return x_B3SS


def _each(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]


def _blend(from_B3SS: Tensor, x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    """From `from` (factor 0) over x (1) outwards: the factor is 1 + 0.9 x strength."""
    return torch.lerp(from_B3SS, x_B3SS, _each(1.0 + 0.9 * strength_B))


def _luma(x_B3SS: Tensor) -> Tensor:
    weights_311 = torch.tensor(_LUMA, device=x_B3SS.device).view(3, 1, 1)
    return (x_B3SS * weights_311).sum(1, keepdim=True).expand_as(x_B3SS)


def _brightness(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    return _blend(torch.zeros_like(x_B3SS), x_B3SS, strength_B)


def _color(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    return _blend(_luma(x_B3SS), x_B3SS, strength_B)


def _contrast(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    mean_B111 = _luma(x_B3SS).mean((1, 2, 3), keepdim=True)
    return _blend(mean_B111.expand_as(x_B3SS), x_B3SS, strength_B)


def _sharpness(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    kernel_33 = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    kernel_3133 = kernel_33.to(x_B3SS.device).expand(3, 1, 3, 3)
    smooth_B3SS = x_B3SS.clone()
    smooth_B3SS[..., 1:-1, 1:-1] = functional.conv2d(x_B3SS, kernel_3133, groups=3)
    return _blend(smooth_B3SS, x_B3SS, strength_B)


def _auto_contrast(x_B3SS: Tensor, _strength_B: Tensor) -> Tensor:
    low, high = x_B3SS.amin((2, 3), keepdim=True), x_B3SS.amax((2, 3), keepdim=True)
    is_flat = high == low
    return torch.where(is_flat, x_B3SS, (x_B3SS - low) * (255.0 / (high - low + is_flat)))


def _equalize(x_B3SS: Tensor, _strength_B: Tensor) -> Tensor:
    """Each channel's values replaced by their ranks, from 0 to 255; equal values stay equal."""
    levels_CN = x_B3SS.round().long().flatten(0, 1).flatten(1)
    counts_CL = torch.zeros(len(levels_CN), 256, device=x_B3SS.device)
    counts_CL.scatter_add_(1, levels_CN, torch.ones_like(levels_CN, dtype=counts_CL.dtype))
    below_CL = counts_CL.cumsum(1) - counts_CL
    last_C1 = counts_CL.gather(1, levels_CN.amax(1, keepdim=True))
    span_C1 = levels_CN.shape[1] - last_C1
    ranks_CL = torch.where(
        span_C1 > 0, below_CL * 255.0 / span_C1.clamp(min=1.0), torch.arange(256.0).to(below_CL)
    )
    return ranks_CL.gather(1, levels_CN).view_as(x_B3SS)


def _invert(x_B3SS: Tensor, _strength_B: Tensor) -> Tensor:
    return 255.0 - x_B3SS


def _posterize(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    # Four of eight bits stay at magnitude 0, none at 10.
    step_B = 2.0 ** (4.0 + (4.0 * strength_B.abs()).floor())
    return (x_B3SS / _each(step_B)).floor() * _each(step_B)


def _solarize(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    threshold_B = 256.0 - (256.0 * strength_B.abs()).floor()
    return torch.where(x_B3SS < _each(threshold_B), x_B3SS, 255.0 - x_B3SS)


def _solarize_add(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    added_B3SS = x_B3SS + _each((110.0 * strength_B.abs()).floor())
    return torch.where(x_B3SS < 128.0, added_B3SS, x_B3SS)


def _affine(x_B3SS: Tensor, rows_B: Sequence[Tensor]) -> Tensor:
    """Each output position (x, y, from -1 to 1) is read at the 2 x 3 matrix with entries `rows_B`."""
    theta_B23 = torch.stack(list(rows_B), 1).view(-1, 2, 3)
    grid_BSS2 = functional.affine_grid(theta_B23, list(x_B3SS.shape), align_corners=False)
    # Grey is zero here, since zero is what grid_sample fills with.
    return _GREY + functional.grid_sample(x_B3SS - _GREY, grid_BSS2, align_corners=False)


def _rotate(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    angle_B = strength_B * math.radians(30.0)
    cos_B, sin_B, zero_B = angle_B.cos(), angle_B.sin(), torch.zeros_like(angle_B)
    return _affine(x_B3SS, (cos_B, -sin_B, zero_B, sin_B, cos_B, zero_B))


def _shear_x(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    one_B, zero_B = torch.ones_like(strength_B), torch.zeros_like(strength_B)
    return _affine(x_B3SS, (one_B, 0.3 * strength_B, zero_B, zero_B, one_B, zero_B))


def _shear_y(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    one_B, zero_B = torch.ones_like(strength_B), torch.zeros_like(strength_B)
    return _affine(x_B3SS, (one_B, zero_B, zero_B, 0.3 * strength_B, one_B, zero_B))


def _translate_x(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    """By 0.45 of the side at most, which is 0.9 from -1 to 1."""
    one_B, zero_B = torch.ones_like(strength_B), torch.zeros_like(strength_B)
    return _affine(x_B3SS, (one_B, zero_B, 0.9 * strength_B, zero_B, one_B, zero_B))


def _translate_y(x_B3SS: Tensor, strength_B: Tensor) -> Tensor:
    one_B, zero_B = torch.ones_like(strength_B), torch.zeros_like(strength_B)
    return _affine(x_B3SS, (one_B, zero_B, zero_B, zero_B, one_B, 0.9 * strength_B))


OPS: dict[str, Op] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
NAMES = tuple(OPS)
"""In the order that draws depend on."""
