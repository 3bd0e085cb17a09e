"""Mean per-class accuracy: the accuracy on the images of each class, averaged over the classes.

Classes that no image is labelled with are left out. Also called balanced accuracy or macro recall.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from results.metrics._logits import is_finite
from results.metrics._predicted import counts

HIGHER_IS_BETTER = True


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """A fraction."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    found = counts(logits_NC, labels_N)
    present_C = found.labelled_C > 0
    return float((found.right_C[present_C] / found.labelled_C[present_C]).mean())
