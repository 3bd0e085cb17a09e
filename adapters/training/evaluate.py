"""Scoring a whole split: every image once, metrics over all logits and never a mean of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from adapters.backbones.contract import BackboneInfo
from adapters.preprocess import AS_USUAL, Preprocess
from adapters.training.peers import ALONE, Peers
from adapters.warm import Pixels

Metrics = Mapping[str, Callable[[NDArray[np.float32], NDArray[np.int64]], float]]
"""Name -> function of logits (N, C) and labels (N,)."""

EVAL_BATCH = 256


class Normalise:
    """Pixels of 0 to 255 (B, 3, S, S) -> float32, by mean and deviation per channel."""

    def __init__(
        self, info: BackboneInfo, device: torch.device, preprocess: Preprocess = AS_USUAL
    ) -> None:
        mean, std = preprocess.mean_std(info)
        self._scale_311 = 1.0 / (255.0 * torch.tensor(std, device=device).view(3, 1, 1))
        mean_311 = torch.tensor(mean, device=device).view(3, 1, 1)
        self._shift_311 = -mean_311 * 255.0 * self._scale_311

    def __call__(self, pixels_B3SS: Tensor) -> Tensor:
        """(B, 3, S, S) in, the same shape out; float32 images are changed in place."""
        return pixels_B3SS.float().mul_(self._scale_311).add_(self._shift_311)


@dataclass(frozen=True)
class Predictions:
    """What a model says of a whole split, in the split's order: `logits` (N, C), `labels` (N,)."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """What a split scored: mean cross-entropy in nats and every metric by name."""

    loss: float
    metrics: dict[str, float]
    predictions: Predictions


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a precision: bfloat16 for `bf16`, float16 for `fp16`, none for `fp32`."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


@torch.inference_mode()
def score(
    vit: nn.Module,
    split: Pixels,
    *,
    normalise: Callable[[Tensor], Tensor],
    precision: str,
    metrics: Metrics,
    on_batch: Callable[[], None],
    classes: Sequence[int] | None = None,
    peers: Peers = ALONE,
) -> Score:
    """Loss and metrics of `vit` on the whole split, in eval mode; `on_batch` is called per batch.

    Each of the `peers` has a part of every batch, and all of them come to the same score.

    Where the split has some of the model's classes alone, `classes` says which of its outputs they are,
    in the order of the split's labels; the others are left out before anything is computed.
    """
    vit.eval()
    parts: list[Tensor] = []
    batch = EVAL_BATCH * peers.size
    for begin in range(0, len(split), batch):
        pixels_B3SS = split.pixels[begin : begin + batch].tensor_split(peers.size)[peers.rank]

        def part(pixels_B3SS: Tensor = pixels_B3SS) -> Tensor | None:
            on_batch()
            if not len(pixels_B3SS):
                return None
            with autocast(split.pixels.device, precision):
                logits_BC: Tensor = vit(normalise(pixels_B3SS)).float()
            return logits_BC if peers.size == 1 else logits_BC.cpu()

        parts += [each for each in peers.gather("evaluation", part) if each is not None]
    logits_NC = torch.cat(parts).to(split.labels.device)
    if classes is not None:
        logits_NC = logits_NC[:, list(classes)]
    loss = float(functional.cross_entropy(logits_NC, split.labels))
    logits, labels = logits_NC.cpu().numpy(), split.labels.cpu().numpy()
    values = {name: compute(logits, labels) for name, compute in metrics.items()}
    return Score(loss, values, Predictions(logits, labels))
