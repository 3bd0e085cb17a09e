"""A trained run between its start and its end, and on further images: nothing here trains.

    trained      the model as it was stored                                       alpha 1
    zero_shot    the plain ViT with the head that the run started from            alpha 0
    all          WiSE: what the method changed, and the head, taken a part alpha of the way
    head         WiSE of the head alone, the method fully on

In `all` a method that merges has every tensor of the plain ViT interpolated between its frozen and
its merged value, W(alpha) = W + alpha (W_merged - W): for methods that train the ViT's own tensors that
is WiSE as it was published (Wortsman et al. 2022, arXiv:2109.01903), for a low-rank increment it is the
increment times alpha. Of an adapter beside or after a branch the output is multiplied by alpha.
Prompts have no such path and are refused. Alpha 0 and 1 are the two models themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from adapters import backbones, heads, registry, saved
from adapters.errors import DataError
from adapters.methods._host_block import BranchedBlock
from adapters.spec import TrialSpec
from adapters.training.building import start_head
from adapters.training.evaluate import Metrics, Normalise, Score, score
from adapters.warm import Pixels, Warm

Mode = Literal["trained", "zero_shot", "all", "head"]


@dataclass(frozen=True, kw_only=True)
class Images:
    """A set to score: `name` as it is shown."""

    name: str
    pixels: Pixels
    classes: Sequence[int] | None = None
    """The model's classes that the labels stand for, in their order; None: all of them."""


def no_path(method: str) -> str | None:
    """Why a method has no models between start and end in mode `all`; None where it has."""
    parts = method.split("+")
    if registry.method(method).MERGEABLE or all(_is_branch(part) for part in parts):
        return None
    return f"{method}: neither merges nor has an output that could be scaled"


def _is_branch(method: str) -> bool:
    """Whether all that it adds stands beside or after the branches of blocks: see `BranchedBlock`."""
    module = registry.method(method)
    return module.FAMILY == "bottleneck" and not module.MERGEABLE


class TrainedRun:
    """One stored run, rebuilt on `warm.device`."""

    def __init__(self, spec: TrialSpec, model: Path, warm: Warm) -> None:
        """Raises DataError where weights or data are not what the run had, ValueError for another model."""
        self.spec, self._warm = spec, warm
        info = backbones.describe(spec.backbone)
        data = warm.data(spec.dataset, spec.dataset_config, info, spec.preprocess)
        self.classes = data.classes
        self.normalise = Normalise(info, warm.device, spec.preprocess)
        self._adapted = saved.load(warm.backbone(spec.backbone), model)
        self._adapted.vit.to(warm.device).eval()
        self._plain: nn.Module = warm.backbone(spec.backbone)
        heads.new_head(self._plain, spec, data.classes)
        self._plain.to(warm.device).eval()
        start_head(self._plain, spec, data, warm, self.normalise)

    def score(
        self,
        images: Images,
        mode: Mode,
        alpha: float,
        metrics: Metrics,
        on_batch: Callable[[], None] = lambda: None,
    ) -> Score:
        """What the model at `alpha` scores; DataError where the set has classes that it has not."""
        wanted = self.classes if images.classes is None else len(images.classes)
        labels = images.pixels.labels
        if int(labels.max()) >= wanted:
            raise DataError(
                f"set {images.name}: label {int(labels.max())} given, but the run on "
                f"{self.spec.dataset} tells {wanted} classes apart"
            )
        with self._at(mode, alpha) as vit:
            return score(
                vit,
                images.pixels,
                normalise=self.normalise,
                precision=self.spec.train.precision,
                metrics=metrics,
                on_batch=on_batch,
                classes=images.classes,
            )

    @contextmanager
    def _at(self, mode: Mode, alpha: float) -> Iterator[nn.Module]:
        """The model at `alpha`; within the context others must not be asked for."""
        if mode == "zero_shot" or (mode == "all" and alpha == 0.0):
            yield self._plain
        elif mode == "trained" or alpha == 1.0:
            yield self._adapted.vit
        elif mode == "head":
            with _values(self._adapted.vit, self._head(alpha)):
                yield self._adapted.vit
        elif registry.method(self._adapted.method).MERGEABLE:
            with _values(self._plain, self._between(alpha)):
                yield self._plain
        else:
            with _values(self._adapted.vit, self._head(alpha)), self._scaled(alpha):
                yield self._adapted.vit

    def _head(self, alpha: float) -> dict[str, Tensor]:
        start = dict(self._plain.named_parameters())
        return {
            name: torch.lerp(start[name], tensor, alpha)
            for name, tensor in self._adapted.head_parameters.items()
        }

    def _between(self, alpha: float) -> dict[str, Tensor]:
        """Every parameter of the plain ViT that training moved, between its two values."""
        self._adapted.merge()
        try:
            end = dict(self._adapted.vit.named_parameters())
            return {
                name: torch.lerp(tensor.detach(), end[name].detach(), alpha)
                for name, tensor in self._plain.named_parameters()
                if not torch.equal(tensor, end[name])
            }
        finally:
            self._adapted.unmerge()

    @contextmanager
    def _scaled(self, alpha: float) -> Iterator[None]:
        blocks = [m for m in self._adapted.vit.modules() if isinstance(m, BranchedBlock)]
        try:
            for block in blocks:
                block.factor = alpha
            yield
        finally:
            for block in blocks:
                block.factor = 1.0


@contextmanager
def _values(vit: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let parameters of `vit` have other values within the context."""
    parameters = dict(vit.named_parameters())
    before = {name: parameters[name].detach().clone() for name in values}
    try:
        with torch.no_grad():
            for name, value in values.items():
                parameters[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
