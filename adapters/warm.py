"""What a job keeps from run to run: the frozen backbone and the decoded images.

Every run gets its own copy of the backbone, so a run in a used process equals the same run in a fresh
one bit for bit.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters import backbones, registry
from adapters.backbones.contract import BackboneInfo
from adapters.data.contract import Encoded, Part
from adapters.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Pixels:
    """A split, resized: `pixels` (N, 3, S, S) uint8 and `labels` (N,) int64, on the run's device."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prepared:
    """A data set at one backbone's input size."""

    train: Pixels
    val: Pixels
    test: Pixels
    classes: int
    digest: str


class Warm:
    """Loads backbones and data sets once and keeps the most recently used ones."""

    def __init__(
        self, device: torch.device, *, backbones_kept: int = 2, data_kept: int = 4
    ) -> None:
        self.device = device
        self._backbones: OrderedDict[Any, nn.Module] = OrderedDict()
        self._data: OrderedDict[Any, Prepared] = OrderedDict()
        self._kept = (backbones_kept, data_kept)

    def backbone(self, name: str) -> nn.Module:
        """A copy of the backbone, without a head, on the run's device and in eval mode."""
        return copy.deepcopy(self.frozen(name))

    def frozen(self, name: str) -> nn.Module:
        """The backbone that copies are made of; loaded if it is not here yet, and not to be changed."""

        def load() -> nn.Module:
            try:
                vit: nn.Module = backbones.create(name)
            except (ValueError, OSError) as error:
                raise DataError(f"backbone {name}: {error}") from error
            return vit.to(self.device)

        return _recent(self._backbones, name, load, self._kept[0])

    def data(self, name: str, config: Any, info: BackboneInfo) -> Prepared:
        """The data set at the backbone's input size, verified against its declared digest."""
        size, mode = info.dims.image_size, info.interpolation

        def load() -> Prepared:
            module = registry.dataset(name)
            try:
                splits = module.load(config)
            except (ValueError, OSError, ImportError) as error:
                raise DataError(f"data set {name}: {error}") from error
            declared = registry.declared_digest(name, config)
            if declared not in (None, splits.source_digest):
                raise DataError(
                    f"data set {name}: its images have digest {splits.source_digest}, "
                    f"declared is {declared}"
                )
            train, val, test = (
                self._resize(part, size, mode) for part in (splits.train, splits.val, splits.test)
            )
            return Prepared(train, val, test, splits.classes, splits.source_digest)

        return _recent(self._data, (name, config, size, mode), load, self._kept[1])

    def _resize(self, images: Part, size: int, mode: str) -> Pixels:
        """Squash to `size` x `size`, antialiased, rounded back to 8 bits as a decoded cache holds them."""
        if isinstance(images, Encoded):
            raise ValueError("encoded images cannot be decoded yet")
        pixels_N3HW = torch.from_numpy(images.pixels).permute(0, 3, 1, 2)
        if pixels_N3HW.shape[-2:] != (size, size):
            pixels_N3HW = functional.interpolate(
                pixels_N3HW.float(), size=(size, size), mode=mode, antialias=True
            )
            pixels_N3HW = pixels_N3HW.round_().clamp_(0, 255).to(torch.uint8)
        return Pixels(
            pixels_N3HW.contiguous().to(self.device),
            torch.from_numpy(images.labels).to(self.device),
        )


def _recent(store: OrderedDict[Any, T], key: Any, load: Callable[[], T], kept: int) -> T:
    if key not in store:
        store[key] = load()
        while len(store) > kept:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]
