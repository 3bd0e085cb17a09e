"""What metrics share: checked input, and a softmax that does not overflow. N images, C classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_finite(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> bool:
    """Whether every logit is finite; ValueError where logits and labels do not belong together."""
    if logits_NC.ndim != 2 or not len(logits_NC) or labels_N.shape != logits_NC.shape[:1]:
        raise ValueError(
            f"logits {logits_NC.shape} with labels {labels_N.shape} given, "
            "allowed: (N, C) with (N,), N > 0"
        )
    if labels_N.min() < 0 or labels_N.max() >= logits_NC.shape[1]:
        raise ValueError(
            f"labels from {labels_N.min()} to {labels_N.max()} given, "
            f"allowed: 0 to {logits_NC.shape[1] - 1}"
        )
    return bool(np.isfinite(logits_NC).all())


def log_softmax(logits_NC: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probabilities (N, C) in float64, shifted by the row's maximum."""
    shifted_NC = logits_NC.astype(np.float64)
    shifted_NC -= shifted_NC.max(axis=1, keepdims=True)
    log_NC: NDArray[np.float64] = shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))
    return log_NC
