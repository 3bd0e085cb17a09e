"""Macro F1: the F1 score of each class, averaged over the classes.

    F1 of a class = 2 * right / (labelled + predicted)

which is the harmonic mean of its precision and recall, and 0 where both are 0. Classes that no
image is labelled with and none predicted as are left out, as scikit-learn's `f1_score` does.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from results.metrics._logits import is_finite
from results.metrics._predicted import counts

HIGHER_IS_BETTER = True


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """From 0 to 1."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    found = counts(logits_NC, labels_N)
    either_C = found.labelled_C + found.predicted_C
    present_C = either_C > 0
    return float((2 * found.right_C[present_C] / either_C[present_C]).mean())
