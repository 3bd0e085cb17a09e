"""Statistics of scores as pure functions over numpy arrays; scipy is loaded when a p is asked for.

A *data set* is a stratum: its scores are those of its seeds. Every resampling is of seeds within
their data set, never of data sets, so an interval says how far other seeds might move a number
on these data sets and nothing about further ones. A random generator may be given; without one a
fixed seed is used, so that the same scores always give the same table.

Below `MIN_SEEDS` seeds nothing is claimed: intervals and p-values are None there.
"""

from __future__ import annotations

from results.stats.aggregate import group_weights, iqm, mean_ranks, ranks, wins
from results.stats.bootstrap import (
    MIN_SEEDS,
    Improvement,
    Interval,
    iqm_interval,
    mean_interval,
    mean_intervals,
    probability_of_improvement,
)
from results.stats.friedman import Friedman, Nemenyi, friedman, nemenyi
from results.stats.mcnemar import McNemar, mcnemar
from results.stats.paired import Paired, Wilcoxon, holm, paired, wilcoxon

__all__ = [
    "MIN_SEEDS",
    "Friedman",
    "Improvement",
    "Interval",
    "McNemar",
    "Nemenyi",
    "Paired",
    "Wilcoxon",
    "friedman",
    "group_weights",
    "holm",
    "iqm",
    "iqm_interval",
    "mcnemar",
    "mean_interval",
    "mean_intervals",
    "mean_ranks",
    "nemenyi",
    "paired",
    "probability_of_improvement",
    "ranks",
    "wilcoxon",
    "wins",
]
