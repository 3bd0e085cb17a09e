"""What metrics of predicted classes share: the class of each image, and counts per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Counts:
    """How many of the images there are per class, C classes."""

    labelled_C: NDArray[np.int64]
    predicted_C: NDArray[np.int64]
    right_C: NDArray[np.int64]
    """Those that are labelled and predicted so."""


def predicted(logits_NC: NDArray[Any]) -> NDArray[np.int64]:
    """The class (N,) of the largest logit; of equals the first."""
    predicted_N: NDArray[np.int64] = logits_NC.argmax(axis=1)
    return predicted_N


def counts(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> Counts:
    """In O(N C): no metric here needs the C x C confusion matrix."""
    classes, predicted_N = logits_NC.shape[1], predicted(logits_NC)
    return Counts(
        np.bincount(labels_N, minlength=classes),
        np.bincount(predicted_N, minlength=classes),
        np.bincount(labels_N[predicted_N == labels_N], minlength=classes),
    )
