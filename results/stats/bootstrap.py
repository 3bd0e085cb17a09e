"""Percentile bootstrap, stratified by data set: seeds are drawn anew within each data set.

One resample of a data set with S seeds draws S of its scores with replacement. How often each was
drawn is multinomial, so a resampled mean is a product of counts and scores, and many rows of a
table with the same seeds per data set share one matrix of counts: rows that are equal get equal
intervals. Agarwal et al. 2021, arXiv 2108.13264 (rliable); Efron 1979.

Scores are given as T arrays, one per data set, each with the scores of its seeds; the numbers of
seeds may differ. Shapes: T data sets, N runs in all, B resamples, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.stats.aggregate import CUT

Floats = NDArray[np.float64]

MIN_SEEDS = 3
"""Below so many seeds on any data set no interval and no p is given."""
RESAMPLES = 10_000
_CHUNK = 1 << 22
"""Elements that are resampled at once."""


class Interval(NamedTuple):
    """A 95 % interval unless another level was asked for."""

    low: float
    high: float


class Improvement(NamedTuple):
    """How probable it is that one variant beats another."""

    probability: float
    interval: Interval | None
    reason: str
    """Why there is no interval; empty where there is one."""


def mean_interval(
    scores: Sequence[ArrayLike],
    weights_T: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
) -> Interval | None:
    """The interval of sum_t w_t mean_s x_ts; without weights every data set counts the same.

    None where a data set has fewer than `MIN_SEEDS` scores.
    """
    strata = _strata(scores)
    counts = tuple(len(stratum) for stratum in strata)
    found = mean_intervals(
        np.concatenate(strata)[None],
        counts,
        weights_T,
        resamples=resamples,
        level=level,
        generator=generator,
    )
    return None if found is None else Interval(*map(float, found[0]))


def mean_intervals(
    scores_RN: Floats,
    counts: Sequence[int],
    weights_T: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
) -> Floats | None:
    """`mean_interval` of R rows at once -> (R, 2), low and high.

    `scores_RN` holds the data sets one after the other, `counts` (T) of them. None as there.
    """
    if min(counts) < MIN_SEEDS:
        return None
    weights = _weights(weights_T, len(counts))
    # A score's share in the row's mean, before and in each resample.
    share_N = np.repeat(weights / np.asarray(counts), counts)
    drawn_BN = _multiplicities(counts, resamples, _generator(generator)) * share_N
    centre_R1 = (scores_RN @ share_N)[:, None]
    tails = [(1 - level) / 2, (1 + level) / 2]
    interval = np.empty((len(scores_RN), 2))
    rows = max(1, _CHUNK // resamples)
    for start in range(0, len(scores_RN), rows):
        part = slice(start, start + rows)
        # Around the mean, so that the width keeps its digits.
        means_RB = (scores_RN[part] - centre_R1[part]) @ drawn_BN.T
        interval[part] = centre_R1[part] + np.quantile(means_RB, tails, axis=1).T
    return interval


def iqm_interval(
    scores: Sequence[ArrayLike],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
) -> Interval | None:
    """The interval of the interquartile mean over all runs (see `iqm`); None as in `mean_interval`."""
    strata = _strata(scores)
    if min(map(len, strata)) < MIN_SEEDS:
        return None
    rng = _generator(generator)
    pooled_N = np.concatenate(strata)
    order_N = np.argsort(pooled_N, kind="stable")
    count = len(pooled_N)
    cut = int(CUT * count)
    counts = [len(stratum) for stratum in strata]
    found = []
    rows = max(1, _CHUNK // count)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        # In sorted order a score keeps what lies between the two cuts of its drawn copies.
        upto_BN = np.cumsum(_multiplicities(counts, size, rng)[:, order_N], axis=1)
        kept_BN = np.diff(np.clip(upto_BN, cut, count - cut), axis=1, prepend=cut)
        found.append(kept_BN @ pooled_N[order_N] / (count - 2 * cut))
    return _percentiles(np.concatenate(found), level)


def probability_of_improvement(
    scores_x: Sequence[ArrayLike],
    scores_y: Sequence[ArrayLike],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    generator: np.random.Generator | None = None,
) -> Improvement:
    """P(a run of x scores more than one of y), averaged over the T data sets; equal scores count half.

    On each data set the Mann-Whitney U over the number of pairs of runs; in the interval the
    runs of x and of y are drawn apart, as rliable does. Agarwal et al. 2021, arXiv 2108.13264.
    """
    strata = list(zip(_strata(scores_x), _strata(scores_y), strict=True))
    above = [
        (np.greater.outer(x, y) + 0.5 * np.equal.outer(x, y)) / (len(x) * len(y)) for x, y in strata
    ]
    estimate = float(np.mean([table.sum() for table in above]))
    fewest = min(min(len(x), len(y)) for x, y in strata)
    if fewest < MIN_SEEDS:
        return Improvement(estimate, None, too_few(fewest))
    rng = _generator(generator)
    total_B = np.zeros(resamples)
    for table in above:
        of_x, of_y = (_multiplicities([size], resamples, rng) for size in table.shape)
        total_B += ((of_x @ table) * of_y).sum(axis=1)
    return Improvement(estimate, _percentiles(total_B / len(above), level), "")


def too_few(seeds: int) -> str:
    """Why nothing is claimed for so few seeds."""
    return f"{seeds} seed{'' if seeds == 1 else 's'}, needed {MIN_SEEDS}"


def _multiplicities(counts: Sequence[int], resamples: int, rng: np.random.Generator) -> Floats:
    """How often each run is drawn in each resample: (B, N), each data set's counts sum to its size."""
    drawn = [rng.multinomial(n, np.full(n, 1 / n), size=resamples) for n in counts]
    found: Floats = np.concatenate(drawn, axis=1).astype(np.float64)
    return found


def _percentiles(values_B: Floats, level: float) -> Interval:
    low, high = np.quantile(values_B, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _strata(scores: Sequence[ArrayLike]) -> list[Floats]:
    strata = [np.asarray(stratum, dtype=np.float64) for stratum in scores]
    wrong = [s.shape for s in strata if s.ndim != 1 or not len(s)]
    if wrong or not strata:
        raise ValueError(
            f"scores: shapes {wrong} given, allowed: for each data set an array of at least one score"
        )
    if not all(np.isfinite(stratum).all() for stratum in strata):
        raise ValueError("scores: a missing or infinite score given, allowed: finite numbers")
    return strata


def _weights(weights_T: ArrayLike | None, datasets: int) -> Floats:
    if weights_T is None:
        return np.full(datasets, 1 / datasets)
    return np.asarray(weights_T, dtype=np.float64)


def _generator(given: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if given is None else given
