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

from adapters import backbones, registry
from adapters.backbones.contract import BackboneInfo
from adapters.data._decoded import decoded
from adapters.data._evaluation import EvaluationSet
from adapters.data._progress import listening
from adapters.data.contract import Part, digest
from adapters.errors import DataError
from adapters.preprocess import AS_USUAL, Preprocess, Resize

T = TypeVar("T")


@dataclass(frozen=True)
class Pixels:
    """A split, resized: `pixels` (N, 3, S, S) uint8 and `labels` (N,) int64, on the run's device."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def joined(self, other: Pixels) -> Pixels:
        """These and the others, in this order."""
        labels = torch.cat((self.labels, other.labels))
        return Pixels(torch.cat((self.pixels, other.pixels)), labels)


@dataclass(frozen=True)
class Prepared:
    """A data set at one backbone's input size."""

    train: Pixels
    val: Pixels
    test: Pixels
    classes: int
    digest: str


@dataclass(frozen=True)
class EvaluationImages:
    """Test images at one backbone's input size."""

    pixels: Pixels
    classes: tuple[int, ...] | None
    """The model's classes that the labels stand for, in their order; None: all of them."""
    digest: str
    """Of the data set's source; of the images themselves where the set is for evaluation only."""


class Warm:
    """Loads backbones and data sets once and keeps the most recently used ones."""

    def __init__(
        self, device: torch.device, *, backbones_kept: int = 2, data_kept: int = 4
    ) -> None:
        self.device = device
        self._backbones: OrderedDict[Any, nn.Module] = OrderedDict()
        self._data: OrderedDict[Any, Prepared] = OrderedDict()
        self._evaluation: OrderedDict[Any, EvaluationImages] = OrderedDict()
        self._features: OrderedDict[str, Tensor] = OrderedDict()
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

    def data(
        self,
        name: str,
        config: Any,
        info: BackboneInfo,
        preprocess: Preprocess = AS_USUAL,
        on_progress: Callable[[], None] | None = None,
    ) -> Prepared:
        """The data set at the backbone's input size, verified against its declared digest.

        `on_progress` is called now and then while it is read. Raises DataError for all that is wrong with
        the images.
        """
        size, mode, resize = info.dims.image_size, preprocess.mode(info), preprocess.resize

        def load() -> Prepared:
            try:
                with listening(on_progress):
                    splits = registry.dataset(name).load(config)
                    declared = registry.declared_digest(name, config)
                    if declared not in (None, splits.source_digest):
                        raise ValueError(
                            f"its images have digest {splits.source_digest}, declared is {declared}"
                        )
                    train, val, test = (
                        self._pixels(part, size, mode, resize)
                        for part in (splits.train, splits.val, splits.test)
                    )
            except (ValueError, OSError, ImportError) as error:
                raise DataError(f"data set {name}: {error}") from error
            return Prepared(train, val, test, splits.classes, splits.source_digest)

        return _recent(self._data, (name, config, size, mode, resize), load, self._kept[1])

    def test_images(
        self, name: str, config: Any, info: BackboneInfo, preprocess: Preprocess = AS_USUAL
    ) -> EvaluationImages:
        """The test images of a data set, or all images of one that is for evaluation only.

        Raises DataError as `data` does.
        """
        dataset = registry.dataset(name)
        if not isinstance(dataset, EvaluationSet):
            data = self.data(name, config, info, preprocess)
            return EvaluationImages(data.test, None, data.digest)
        size, mode, resize = info.dims.image_size, preprocess.mode(info), preprocess.resize

        def load() -> EvaluationImages:
            try:
                part = dataset.evaluation(config)
                pixels = self._pixels(part, size, mode, resize)
                return EvaluationImages(pixels, dataset.CLASS_SUBSET, digest(part))
            except (ValueError, OSError, ImportError) as error:
                raise DataError(f"data set {name}: {error}") from error

        return _recent(self._evaluation, (name, config, size, mode, resize), load, self._kept[1])

    def features(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """What a frozen backbone gives for a split: see `adapters.training.features`."""
        return _recent(self._features, key, compute, 3 * self._kept[1])

    def _pixels(self, part: Part, size: int, mode: str, resize: Resize) -> Pixels:
        return Pixels(
            decoded(part, size, mode, resize).to(self.device),
            torch.from_numpy(part.labels).to(self.device),
        )


def _recent(store: OrderedDict[Any, T], key: Any, load: Callable[[], T], kept: int) -> T:
    if key not in store:
        store[key] = load()
        while len(store) > kept:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]
