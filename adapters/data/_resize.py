"""Resizing as `adapters.preprocess` names it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from adapters.preprocess import Resize

CROPPED = 0.875
"""Of the side that is left after resizing, what the crop keeps."""


def resized(pixels_N3HW: Tensor, size: int, mode: str, resize: Resize) -> Tensor:
    """uint8 (N, 3, H, W) -> uint8 (N, 3, size, size), contiguous."""
    height, width = pixels_N3HW.shape[-2:]
    if resize == "squash":
        return _interpolated(pixels_N3HW, (size, size), mode)
    side = round(size / CROPPED)
    if resize == "square_crop":
        to = side, side
    else:
        scale = side / min(height, width)
        to = max(side, round(height * scale)), max(side, round(width * scale))
    whole = _interpolated(pixels_N3HW, to, mode)
    top, left = (to[0] - size) // 2, (to[1] - size) // 2
    return whole[..., top : top + size, left : left + size].contiguous()


def _interpolated(pixels_N3HW: Tensor, to: tuple[int, int], mode: str) -> Tensor:
    if tuple(pixels_N3HW.shape[-2:]) == to:
        return pixels_N3HW.contiguous()
    made = functional.interpolate(pixels_N3HW.float(), size=to, mode=mode, antialias=True)
    return made.round_().clamp_(0, 255).to(torch.uint8).contiguous()
