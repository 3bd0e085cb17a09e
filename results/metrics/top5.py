"""Top-5 accuracy: the fraction of images whose label is among the five largest logits.

Of equal logits the first class comes first, so top1 <= top5. With C < 5 classes all C are looked at:
the metric is then 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.metrics._logits import is_finite

HIGHER_IS_BETTER = True
LARGEST = 5


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """A fraction."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    own_N1 = np.take_along_axis(logits_NC, labels_N[:, None], axis=1)
    before_NC = logits_NC > own_N1
    before_NC |= (logits_NC == own_N1) & (np.arange(logits_NC.shape[1]) < labels_N[:, None])
    return float((np.count_nonzero(before_NC, axis=1) < LARGEST).mean())
