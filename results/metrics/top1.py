"""Accuracy: the fraction of images whose largest logit is the label's; of equals the first."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from results.metrics._logits import is_finite

HIGHER_IS_BETTER = True


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """A fraction."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    return float((logits_NC.argmax(axis=1) == labels_N).mean())
