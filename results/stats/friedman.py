"""Many variants over many data sets: Friedman's test with Nemenyi's critical difference.

Demsar 2006, Journal of Machine Learning Research 7, 1-30. With k variants, N data sets and mean
ranks R_j (ties share the mean rank):

    chi2_F = 12 N / (k (k + 1)) * (sum_j R_j^2 - k (k + 1)^2 / 4)
    F_F    = (N - 1) chi2_F / (N (k - 1) - chi2_F),   F with k - 1 and (k - 1)(N - 1) degrees
    CD     = q / sqrt(2) * sqrt(k (k + 1) / (6 N)),   q of the studentised range, infinite degrees

chi2_F is not corrected for ties, as there; that errs to the side of claiming less.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.stats.aggregate import mean_ranks

Floats = NDArray[np.float64]


class Friedman(NamedTuple):
    """Whether k variants rank alike over N data sets."""

    mean_ranks: tuple[float, ...]
    """One per variant, 1 the best."""
    chi2: float
    f: float | None
    """Iman and Davenport's F_F; None where all data sets rank alike, for it is infinite there."""
    p: float
    """Of F_F; where all data sets rank alike, the chance of that: 1 / k!^(N - 1)."""


class Nemenyi(NamedTuple):
    """Which variants differ once Friedman's test says that some do."""

    critical_difference: float
    """Mean ranks that lie further apart than this differ at `alpha`."""
    p: Floats
    """Of each pair (k, k)."""


def friedman(scores_kN: ArrayLike, *, higher_is_better: bool = True) -> Friedman:
    """The test on one score per variant and data set (k, N)."""
    scores = np.asarray(scores_kN, dtype=np.float64)
    k, n = scores.shape
    if k < 3 or n < 2:
        raise ValueError(
            f"scores: {k} variants on {n} data sets given, allowed: at least 3 variants and 2 data sets"
        )
    mean = mean_ranks(scores, higher_is_better=higher_is_better)
    chi2 = 12 * n / (k * (k + 1)) * (float(mean @ mean) - k * (k + 1) ** 2 / 4)
    left = n * (k - 1) - chi2
    if math.isclose(left, 0, abs_tol=1e-9):
        p, f = float(math.factorial(k)) ** (1 - n), None
    else:
        from scipy import stats

        f = (n - 1) * chi2 / left
        p = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    return Friedman(tuple(map(float, mean)), chi2, f, p)


def nemenyi(ranks_k: ArrayLike, datasets: int, *, alpha: float = 0.05) -> Nemenyi:
    """The critical difference of mean ranks over so many data sets, and p of each pair."""
    from scipy import stats

    mean = np.asarray(ranks_k, dtype=np.float64)
    k = len(mean)
    error = math.sqrt(k * (k + 1) / (12 * datasets))
    distance = np.abs(np.subtract.outer(mean, mean)) / error
    return Nemenyi(
        critical_difference=float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) * error,
        p=np.asarray(stats.studentized_range.sf(distance, k, np.inf), dtype=np.float64),
    )
