"""How the classification head of a run starts.

    default       torch's Linear initialisation, U(-1/sqrt(d), 1/sqrt(d)), from the run's own generator
    zero          all zero
    trunc_normal  weights with a standard deviation of 2e-5, truncated, and a bias of 0
    class_means   W_c = m_c / v, b_c = -|m_c|^2 / (2 v), with the class means m_c of the frozen
                  backbone's features of the training images and v their mean variance within classes

The last is the linear discriminant of classes that share one spherical variance: what can be said without
training, so that weights between start and end (WiSE) mean something on data without class names. Where
there are names, `train.text_head` takes the place of all of these: see `adapters.text_head`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters import text_head
from adapters.errors import DataError
from adapters.spec import TrialSpec
from adapters.training import seeding

BATCH = 256


def new_head(vit: nn.Module, spec: TrialSpec, classes: int) -> None:
    """Give `vit` the head that a run starts from; `class_means` is set by `set_class_means` later.

    Raises DataError where the file of text embeddings is not what it must be.
    """
    given = spec.train.text_head
    if given is None:
        vit.reset_classifier(classes)  # type: ignore[operator]
        _init(vit.head, spec)  # type: ignore[arg-type]
        return
    try:
        text_head.fill(text_head.place(vit, given.dim, classes), given)
    except (ValueError, OSError) as error:
        raise DataError(f"text_head: {error}") from error


def _init(head: nn.Linear, spec: TrialSpec) -> None:
    generator = seeding.generator(spec.seed, "head")
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    match spec.train.head_init:
        case "trunc_normal":
            nn.init.trunc_normal_(head.weight, std=2e-5, generator=generator)
        case "default":
            bound = 1.0 / math.sqrt(head.in_features)
            nn.init.uniform_(head.weight, -bound, bound, generator=generator)
            nn.init.uniform_(head.bias, -bound, bound, generator=generator)


@torch.no_grad()
def set_class_means(
    head: nn.Linear,
    frozen: nn.Module,
    pixels_N3SS: Tensor,
    labels_N: Tensor,
    normalise: Callable[[Tensor], Tensor],
) -> None:
    """Set `head` (C, d) to the discriminant of the features that `frozen`, a ViT without a head, gives.

    Raises ValueError for a class without a training image.
    """
    parts = [frozen(normalise(part)).float() for part in torch.split(pixels_N3SS, BATCH)]
    features_ND = torch.cat(parts)
    members_NC = functional.one_hot(labels_N, head.out_features).float()
    counts_C = members_NC.sum(0)
    if not bool((counts_C > 0).all()):
        absent = int((counts_C == 0).nonzero()[0])
        raise ValueError(
            f"head_init: class_means given, but class {absent} has no training image; "
            "allowed: default, zero"
        )
    means_CD = members_NC.T @ features_ND / counts_C[:, None]
    variance = (features_ND - means_CD[labels_N]).square().mean()
    head.weight.copy_(means_CD / variance)
    head.bias.copy_(-means_CD.square().sum(1) / (2 * variance))
