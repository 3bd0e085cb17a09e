"""Features of a frozen backbone, computed once for all runs that train nothing but a head.

Where a method leaves the ViT as it is and every image is seen as it is, what the head gets never
changes: the pooled, normed features. They are computed once per backbone, data set, transform and
precision, and runs that differ in learning rate, weight decay, batches or seed train their heads on
them. A process keeps them (`adapters.warm`), and so does the node, in

    <cache>/features/<key>.safetensors

where weights and images are known by their digests. Images go through the backbone in batches of
their own size, so logits agree with those of the direct way to float32's last digits.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from adapters.adapted import Adapted
from adapters.backbones._cache import cache_dir, replace_atomically
from adapters.backbones.contract import BackboneInfo
from adapters.spec import TrainConfig, TrialSpec
from adapters.training.augment import Augment
from adapters.training.evaluate import EVAL_BATCH, Normalise, autocast
from adapters.warm import Pixels, Prepared, Warm

VERSION = 1
"""Of what the files hold."""
MOST_BYTES = 2**30
"""Features of a split that are kept; images of a larger one go through the backbone every time."""


def are_fixed(spec: TrialSpec, adapted: Adapted, data: Prepared) -> bool:
    """Whether what the head of this run gets from an image is the same at every step, and can be kept."""
    train = spec.train
    width = int(getattr(adapted.vit, "num_features", 0))
    most = max(len(split) for split in (data.train, data.val, data.test)) * width * 4
    return (
        0 < most <= MOST_BYTES
        and not adapted.adapter_parameters
        and not adapted.active.on  # the method changed nothing else either
        and not _varies(train, spec.seed)
        and all(_is_plain(module) for module in adapted.vit.modules())
        and hasattr(adapted.vit, "forward_head")
    )


def _varies(train: TrainConfig, seed: int) -> bool:
    mixes = train.mixup or train.cutmix
    return bool(Augment(train, seed).is_on or mixes or train.drop_path or train.compile)


def _is_plain(module: nn.Module) -> bool:
    """Whether it does the same in training as in evaluation, and nobody watches it."""
    drops = max(float(getattr(module, name, None) or 0.0) for name in ("p", "drop_prob"))
    watched = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001 - torch's own
    return not drops and not watched


class Splits(Protocol):
    """What a run sees of its data set: `adapters.warm.Prepared`, or features in the place of pixels."""

    @property
    def train(self) -> Pixels: ...  # noqa: D102
    @property
    def val(self) -> Pixels: ...  # noqa: D102
    @property
    def test(self) -> Pixels: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class View:
    """What a run puts its images through, and how they come."""

    model: nn.Module
    data: Splits
    normalise: Callable[[Tensor], Tensor]


class _Features:
    """The splits of a data set with features (N, D) for pixels, each made when it is asked for."""

    def __init__(self, data: Prepared, of_split: Callable[[str, Pixels], Pixels]) -> None:
        self._data, self._of_split = data, of_split
        self.digest = data.digest

    @functools.cached_property
    def train(self) -> Pixels:
        return self._of_split("train", self._data.train)

    @functools.cached_property
    def val(self) -> Pixels:
        return self._of_split("val", self._data.val)

    @functools.cached_property
    def test(self) -> Pixels:  # a run that does not score the test set never asks for it
        return self._of_split("test", self._data.test)


def of_head(
    spec: TrialSpec,
    vit: nn.Module,
    data: Prepared,
    info: BackboneInfo,
    normalise: Normalise,
    warm: Warm,
    on_batch: Callable[[], None],
) -> View:
    """The head of `vit` with the features that it gets; see `are_fixed`."""

    def of_split(name: str, images: Pixels) -> Pixels:
        def compute() -> Tensor:
            return _computed(vit, images, normalise, spec.train.precision, on_batch)

        key = _key(spec, info, data, name, warm.device)
        kept = warm.features(key, lambda: _kept(key, info, warm.device, compute))
        return Pixels(kept, images.labels)

    return View(vit.head, _Features(data, of_split), lambda features_BD: features_BD)  # type: ignore[arg-type]


@torch.no_grad()
def _computed(
    vit: nn.Module,
    images: Pixels,
    normalise: Normalise,
    precision: str,
    on_batch: Callable[[], None],
) -> Tensor:
    """Pooled features (N, D) of all images."""
    was_training, parts = vit.training, []
    vit.eval()
    for pixels_B3SS in torch.split(images.pixels, EVAL_BATCH):
        on_batch()
        with autocast(images.pixels.device, precision):
            tokens_BND = vit.forward_features(normalise(pixels_B3SS))  # type: ignore[operator]
            parts.append(vit.forward_head(tokens_BND, pre_logits=True))  # type: ignore[operator]
    vit.train(was_training)
    return torch.cat(parts)


def _key(
    spec: TrialSpec, info: BackboneInfo, data: Prepared, split: str, device: torch.device
) -> str:
    told = (
        *(VERSION, spec.backbone, info.weights_digest, spec.dataset, spec.dataset_config, split),
        *(data.digest, spec.preprocess, spec.train.precision, device.type, torch.__version__),
    )
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def _kept(
    key: str, info: BackboneInfo, device: torch.device, compute: Callable[[], Tensor]
) -> Tensor:
    """From the node's file; made, by one process while others wait, where there is none that is whole."""
    if info.weights_digest is None:  # another backbone of that name would have the same key
        return compute()
    path = cache_dir() / "features" / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _read(path, key)
        if found is None:
            found = compute()
            tensors = {"features": found.cpu().contiguous()}
            replace_atomically(path, save(tensors, metadata={"key": key}))
    return found.to(device)


def _read(path: Path, key: str) -> Tensor | None:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            own = (file.metadata() or {}).get("key")
        return load_file(path)["features"] if own == key else None
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
