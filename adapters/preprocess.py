"""From images of any size to what the network gets, the same for every method on one data set.

    squash        both sides to S, whatever the shape (the default; VTAB-1K)
    crop          the shorter side to S / 0.875, then the central S x S (the usual evaluation crop)
    square_crop   both sides to S / 0.875, then the central S x S (the OSU study's ImageNet evaluation)

Resizing is antialiased and rounds back to 8 bits, as a decoded cache holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Resize = Literal["squash", "crop", "square_crop"]
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_NONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How images become the network's input."""

    resize: Resize = "squash"
    """`squash` to the input size, or a central `crop` or `square_crop` of seven eighths."""
    interpolation: Literal["backbone", "bilinear", "bicubic"] = "backbone"
    """`backbone` is the one its weights were published with."""
    normalise: Literal["backbone", "imagenet", "half", "none"] = "backbone"
    """Mean and standard deviation: the weights' own, ImageNet's, 0.5 and 0.5, or none at all."""

    def mode(self, info: Any) -> str:
        """The interpolation for a backbone."""
        mode: str = info.interpolation if self.interpolation == "backbone" else self.interpolation
        return mode

    def mean_std(self, info: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of pixels in 0..1, per channel, for a backbone."""
        match self.normalise:
            case "imagenet":
                return _IMAGENET
            case "half":
                return _HALF
            case "none":
                return _NONE
        return tuple(info.mean), tuple(info.std)


AS_USUAL = Preprocess()
"""What a suite gets that asks for nothing else."""
