"""Negative log-likelihood of the labels: mean of -log softmax(logits)[label], in nats per image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.metrics._logits import is_finite, log_softmax

HIGHER_IS_BETTER = False


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """Nats per image, computed in float64."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    return float(-log_softmax(logits_NC)[np.arange(len(labels_N)), labels_N].mean())
