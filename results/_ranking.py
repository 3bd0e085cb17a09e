"""Several variants ranked over data sets: Friedman's test with Nemenyi's critical difference."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results import stats
from results.stats.bootstrap import too_few

ALPHA = 0.05
FEWEST_DATASETS = 5
"""On fewer, ranks are not tested."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Mean ranks of the variants over the data sets on which all of them are complete."""

    variants: tuple[str, ...]
    """Best mean rank first."""
    mean_ranks: tuple[float, ...]
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    """Data sets on which a variant misses runs."""
    chi2: float | None = None
    """Friedman's; None where nothing is tested, as the next three."""
    f: float | None = None
    """Iman and Davenport's; None also where all data sets rank alike."""
    p: float | None = None
    critical_difference: float | None = None
    """Nemenyi's: mean ranks further apart than this differ."""
    claim: str
    """What may be said, in words."""


def rank(
    names: Sequence[str],
    scores: Sequence[Mapping[str, Sequence[float]]],
    datasets: Sequence[str],
    *,
    higher_is_better: bool,
) -> Ranking:
    """The ranking of variants by their scores on each data set, nan for a run without one."""
    whole = [
        dataset
        for dataset in datasets
        if all(dataset in own and np.isfinite(own[dataset]).all() for own in scores)
    ]
    left_out = tuple(dataset for dataset in datasets if dataset not in whole)
    if not whole:
        return Ranking(
            variants=tuple(names),
            mean_ranks=(),
            datasets=(),
            left_out=left_out,
            claim="no claim: no data set on which every variant is complete",
        )
    means_kN = np.array([[np.mean(own[dataset]) for dataset in whole] for own in scores]).round(12)
    ranks_k = stats.mean_ranks(means_kN, higher_is_better=higher_is_better)
    order = np.argsort(ranks_k, kind="stable").tolist()
    variants = tuple(names[at] for at in order)
    mean_ranks = tuple(float(ranks_k[at]) for at in order)
    fewest = min(len(own[dataset]) for own in scores for dataset in whole)
    if len(whole) < FEWEST_DATASETS or fewest < stats.MIN_SEEDS:
        lacking = f"{len(whole)} data set{'s' * (len(whole) > 1)}, needed {FEWEST_DATASETS}"
        return Ranking(
            variants=variants,
            mean_ranks=mean_ranks,
            datasets=tuple(whole),
            left_out=left_out,
            claim=f"no claim: {too_few(fewest) if fewest < stats.MIN_SEEDS else lacking}",
        )
    test = stats.friedman(means_kN, higher_is_better=higher_is_better)
    distance = stats.nemenyi(mean_ranks, len(whole), alpha=ALPHA).critical_difference
    return Ranking(
        variants=variants,
        mean_ranks=mean_ranks,
        datasets=tuple(whole),
        left_out=left_out,
        chi2=test.chi2,
        f=test.f,
        p=test.p,
        critical_difference=distance,
        claim=_claim(test.p, variants, mean_ranks, distance),
    )


def _claim(p: float, variants: Sequence[str], ranks: Sequence[float], distance: float) -> str:
    if p >= ALPHA:
        return f"no claim: p = {p:.3g}, needed below {ALPHA}"
    # The better rank stands first.
    apart = [
        f"{variants[i]} before {variants[j]}"
        for i, j in itertools.combinations(range(len(variants)), 2)
        if ranks[j] - ranks[i] > distance
    ]
    if not apart:
        return f"the ranks differ (p = {p:.3g}), but no two by more than the critical difference"
    return f"the ranks differ (p = {p:.3g}): {', '.join(apart)}"
