"""Expected calibration error of the predicted class (Guo et al. 2017, arXiv:1706.04599).

    ECE = sum over bins B of |B| / N * |accuracy(B) - mean confidence(B)|

The confidence is the largest softmax probability; the 15 bins ((m - 1) / 15, m / 15] have equal
width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.metrics._logits import is_finite, log_softmax

HIGHER_IS_BETTER = False
BINS = 15


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """A fraction, computed in float64."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    confidence_N = np.exp(log_softmax(logits_NC).max(axis=1))
    correct_N = logits_NC.argmax(axis=1) == labels_N
    bin_N = np.digitize(confidence_N, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    # |B| / N * |accuracy - confidence| is |sum over B of (correct - confidence)| / N.
    gap_B = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=BINS)
    return float(np.abs(gap_B).sum() / len(labels_N))
