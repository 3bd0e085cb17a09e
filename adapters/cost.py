"""What inference costs with a method on a ViT, as it is and merged, beside the plain ViT.

Multiply-adds are counted by torch's FlopCounterMode: matrix products, attention and convolutions, which
element-wise scaling (ssf, ia3) is not. Speed is measured: the three models take turns, so that what else
the machine does strikes all of them, and medians are compared pass by pass.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adapters import backbones
from adapters.adapted import Adapted
from adapters.spec import TrialSpec, at_least
from adapters.trial import build
from adapters.warm import Warm

LEAST_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward pass in eval mode and float32."""

    gmacs: float
    """Of one image, in 1e9 multiply-adds."""
    images_per_second: float
    """By the median pass."""
    relative_speed: float
    """Median over the rounds of the plain ViT's seconds divided by this model's; 1 for itself."""


@dataclass(frozen=True, kw_only=True)
class InferenceCost:
    """One method with its settings on one backbone, with a head."""

    trainable_params: int
    """The head's included."""
    adapter_params: int
    total_params: int
    plain: Pass
    """The backbone with the same head and no method."""
    unmerged: Pass
    merged: Pass | None
    not_merged: str | None
    """Why there is no merged model; None where there is one."""


def inference_cost(
    spec: TrialSpec, classes: int, warm: Warm, *, batch: int, rounds: int
) -> InferenceCost:
    """Build the model of `spec` as before its first step and measure it on `warm.device`.

    `batch` images a pass; `rounds` timed passes of each model, at least 5, after one that is not.
    Raises as `adapters.trial.build` does, and ValueError for numbers that are too small.
    """
    at_least(1, batch=batch)
    at_least(LEAST_ROUNDS, rounds=rounds)
    adapted = build(spec, classes, warm)
    adapter = sum(tensor.numel() for tensor in adapted.adapter_parameters.values())
    head = sum(tensor.numel() for tensor in adapted.head_parameters.values())
    total = sum(tensor.numel() for tensor in adapted.vit.parameters())
    merged, not_merged = _merged(adapted)
    plain = warm.backbone(spec.backbone)
    plain.reset_classifier(classes)  # type: ignore[operator]
    models = [plain, adapted.vit, *([] if merged is None else [merged])]
    size = backbones.describe(spec.backbone).dims.image_size
    pixels_B3SS = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    passes = _passes([model.to(warm.device).eval() for model in models], pixels_B3SS, rounds)
    return InferenceCost(
        trainable_params=adapter + head,
        adapter_params=adapter,
        total_params=total,
        plain=passes[0],
        unmerged=passes[1],
        merged=None if merged is None else passes[2],
        not_merged=not_merged,
    )


def gmacs(vit: nn.Module, pixels_B3SS: Tensor) -> float:
    """1e9 multiply-adds in one pass over all images given."""
    # Attention as two products: kernels that some versions of the counter do not know are not used.
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        vit(pixels_B3SS)
    return float(counter.get_total_flops()) / 2e9


def _merged(adapted: Adapted) -> tuple[nn.Module | None, str | None]:
    """The ViT with the method in its weights, or why that cannot be."""
    try:
        adapted.merge()
    except ValueError as error:
        return None, str(error)
    merged = copy.deepcopy(adapted.vit)
    adapted.unmerge()
    return merged, None


def _passes(models: Sequence[nn.Module], pixels_B3SS: Tensor, rounds: int) -> list[Pass]:
    """Every model beside the first one."""
    pixels_B3SS = pixels_B3SS.to(next(models[0].parameters()).device)
    times = _times(models, pixels_B3SS, rounds)
    return [
        Pass(
            gmacs=gmacs(model, pixels_B3SS[:1]),
            images_per_second=len(pixels_B3SS) / statistics.median(own),
            relative_speed=statistics.median(
                first / other for first, other in zip(times[0], own, strict=True)
            ),
        )
        for model, own in zip(models, times, strict=True)
    ]


@torch.inference_mode()
def _times(models: Sequence[nn.Module], pixels_B3SS: Tensor, rounds: int) -> list[list[float]]:
    """Seconds of every pass of every model, one of each a round, in alternating order."""
    times: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):
        order = range(len(models))
        for index in order if number % 2 else reversed(order):
            _wait(pixels_B3SS.device)
            began = time.perf_counter()
            models[index](pixels_B3SS)
            _wait(pixels_B3SS.device)
            times[index].append(time.perf_counter() - began)
    return [own[1:] for own in times]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
