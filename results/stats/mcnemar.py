"""McNemar's test of two models on the same images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class McNemar(NamedTuple):
    """What two models get right on the same images."""

    only_a: int
    """Images that the first alone gets right."""
    only_b: int
    statistic: int
    """The smaller of the two."""
    p: float
    """Exact, two-sided."""


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> McNemar:
    """The exact test on two boolean arrays (N,): p = min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2).

    It is about these images: two trained models, not two methods. McNemar 1947.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.dtype != np.bool_ or b.dtype != np.bool_ or a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"correct: {a.dtype} {a.shape} and {b.dtype} {b.shape} given, "
            "allowed: two boolean arrays of one length"
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    least, differing = min(only_a, only_b), only_a + only_b
    if not differing:
        return McNemar(0, 0, 0, 1.0)
    from scipy import stats

    p = min(1.0, 2 * float(stats.binom.cdf(least, differing, 0.5)))
    return McNemar(only_a, only_b, least, p)
