"""Cohen's kappa with quadratic weights (Cohen 1968): agreement on ordered classes beyond chance.

    kappa = 1 - mean((label - predicted)^2) / mean((label - predicted')^2)

where predicted' are the predictions paired with every label alike: what the two margins give by
chance. The numbers of the classes are their grades. It is 1 for perfect agreement and 0 for chance;
it says something only of data sets whose classes have an order. nan where every label and every
prediction is one and the same class: then chance alone agrees fully.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.metrics._logits import is_finite
from results.metrics._predicted import predicted

HIGHER_IS_BETTER = True


def compute(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """At most 1, may be negative. Exact integers until the one division."""
    if not is_finite(logits_NC, labels_N):
        return float("nan")
    label_N, predicted_N = labels_N.astype(np.int64), predicted(logits_NC)
    number, difference_N = len(label_N), label_N - predicted_N
    squares = _dot(label_N, label_N) + _dot(predicted_N, predicted_N)
    by_chance = number * squares - 2 * int(label_N.sum()) * int(predicted_N.sum())
    if by_chance == 0:
        return float("nan")
    return 1 - number * _dot(difference_N, difference_N) / by_chance


def _dot(one_N: NDArray[np.int64], other_N: NDArray[np.int64]) -> int:
    return int(one_N @ other_N)
