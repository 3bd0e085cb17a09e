"""Two variants on the same data sets with the same seeds: differences, Wilcoxon's test and Holm's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.stats.bootstrap import MIN_SEEDS, RESAMPLES, Interval, mean_interval, too_few

Floats = NDArray[np.float64]
_DIGITS = 12
"""Differences that agree to so many decimals are equal: 0.9 - 0.8 and 0.8 - 0.7 are."""


class Paired(NamedTuple):
    """How far one variant is from another over pairs of runs."""

    pairs: int
    difference: float
    """sum_t w_t mean_s d_ts."""
    interval: Interval | None
    effect_size: float | None
    """mean(d) / std(d) over all pairs, n - 1: Cohen's d_z; None below two pairs or without spread."""
    reason: str
    """Why there is no interval; empty where there is one."""


class Wilcoxon(NamedTuple):
    """Wilcoxon's signed-rank test, two-sided."""

    statistic: float | None
    """The smaller of the two sums of ranks."""
    p: float | None
    reason: str
    """Why there is no p; empty where there is one."""


def paired(
    differences: Sequence[ArrayLike],
    weights_T: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
) -> Paired:
    """The weighted mean difference, its stratified bootstrap interval, and the effect size.

    `differences`: T arrays, for each data set one difference per seed. Pairs are resampled within
    their data set. Effect size: Cohen 1988, as d_z in Lakens 2013 (doi 10.3389/fpsyg.2013.00863).
    """
    strata = [np.asarray(stratum, dtype=np.float64) for stratum in differences]
    interval = mean_interval(
        strata, weights_T, resamples=resamples, level=level, generator=generator
    )
    means = np.array([stratum.mean() for stratum in strata])
    weights = None if weights_T is None else np.asarray(weights_T, dtype=np.float64)
    pooled = np.concatenate(strata).round(_DIGITS)
    spread = float(pooled.std(ddof=1)) if np.ptp(pooled) > 0 else None
    fewest = min(map(len, strata))
    return Paired(
        pairs=len(pooled),
        difference=float(np.average(means, weights=weights)),
        interval=interval,
        effect_size=float(pooled.mean()) / spread if spread else None,
        reason=too_few(fewest) if fewest < MIN_SEEDS else "",
    )


def wilcoxon(differences: Sequence[ArrayLike]) -> Wilcoxon:
    """The signed-rank test over all pairs; no p where a data set has fewer than `MIN_SEEDS` pairs.

    Pairs without a difference are left out (Wilcoxon 1945); where none differs p is 1. The null
    distribution is exact up to 50 differing pairs without ties and up to 13 with them, else normal
    (scipy.stats.wilcoxon, method "auto").
    """
    strata = [np.asarray(stratum, dtype=np.float64) for stratum in differences]
    fewest = min(map(len, strata))
    if fewest < MIN_SEEDS:
        return Wilcoxon(None, None, too_few(fewest))
    pooled = np.concatenate(strata).round(_DIGITS)
    if not pooled.any():
        return Wilcoxon(0.0, 1.0, "")
    from scipy import stats

    found = stats.wilcoxon(pooled[pooled != 0])
    return Wilcoxon(float(found.statistic), float(found.pvalue), "")


def least_p(pairs: int) -> float:
    """The smallest two-sided p that Wilcoxon's test can give for so many differing pairs: 2 / 2^n."""
    return math.ldexp(1.0, 1 - max(pairs, 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the given order.

    With p_(1) <= ... <= p_(m): adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).
    Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(order)
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted
