"""Variants against each other, paired by data set and seed, and what may be claimed of it.

Every pair of variants gets its mean difference with an interval, the effect size, Wilcoxon's
signed-rank test with Holm's correction over the pairs of variants, and the probability of
improvement, over the runs that both have a score for; runs that one of them misses are listed.
More than two variants are ranked, too (`results._ranking`).

A claim needs `stats.MIN_SEEDS` seeds on every data set, a corrected p below `ALPHA` and an
interval without zero. It is about these data sets: only seeds are resampled and tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from results import compare_text, stats
from results._ranking import ALPHA, Ranking, rank
from results.agreement import Agreement, agree
from results.errors import TableError as TableError
from results.formats import printable
from results.scores import Scores, load
from results.stats import Interval
from results.stats.paired import least_p
from results.store import Store


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Variant `a` against variant `b`. Differences are a - b, of the metric as it is."""

    a: str
    b: str
    pairs: int
    """Runs of a, each with the run of b on its data set and with its seed."""
    missing: tuple[str, ...]
    """The planned ones that are not among them, each with what is missing."""
    datasets: int
    """Data sets with at least one pair."""
    better_on: int = 0
    """Of these, where the mean of a is the better one."""
    worse_on: int = 0
    difference: float | None = None
    """Over seeds, then data sets, then groups, as in the leaderboard; None without any pair."""
    interval: Interval | None = None
    effect_size: float | None = None
    """Cohen's d_z: mean over standard deviation of the differences of all pairs."""
    statistic: float | None = None
    """Wilcoxon's."""
    p: float | None = None
    """Wilcoxon's, two-sided, not corrected."""
    p_holm: float | None = None
    """Corrected for the number of pairs of variants that have a p."""
    improvement: float | None = None
    """Probability that a run of a is better than one of b on the same data set."""
    improvement_interval: Interval | None = None
    claim: str = "no claim: no pair of runs"
    """What may be said, in words."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All pairs of the variants, and their ranking where there are more than two."""

    suites: tuple[str, ...]
    metric: str
    higher_is_better: bool
    variants: tuple[str, ...]
    pairs: tuple[Pair, ...]
    ranking: Ranking | None
    agreement: Agreement | None = None
    """Image by image on one data set, where that was asked for."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the comparison comes from besides suites and metric: store, versions."""

    def to_text(self) -> str:
        """For the terminal."""
        return compare_text.text(self)

    def to_markdown(self) -> str:
        """Markdown."""
        return compare_text.markdown(self)

    def to_latex(self) -> str:
        """A LaTeX table; its preamble needs the package booktabs."""
        return compare_text.latex(self)

    def to_json(self) -> str:
        """Every number unrounded, as one JSON object."""
        return compare_text.as_json(self)


def compare(
    store: Store,
    variants: Sequence[str],
    suite: str | None = None,
    *,
    metric: str = "test/top1",
    images: str | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare variants by the names that `table` shows, or by an unambiguous beginning of them.

    `images` names a data set on which their stored predictions are compared, too.
    """
    scores = load(store, suite, metric)
    found = compare_scores(scores, variants, provenance)
    if images is None:
        return found
    labels = scores.labels()
    rows = [labels.index(name) for name in found.variants]
    return replace(found, agreement=agree(store, scores, rows, images))


def compare_scores(
    scores: Scores, variants: Sequence[str], provenance: Mapping[str, str] | None = None
) -> Comparison:
    """The comparison in scores that were read before."""
    labels = scores.labels()
    rows = [_find(labels, name) for name in variants]
    if len(rows) < 2 or len(set(rows)) < len(rows):
        raise TableError(
            f"variants: {', '.join(variants)} given, allowed: at least two different ones"
        )
    names = [labels[row] for row in rows]
    runs = [_runs(scores, row, labels[row]) for row in rows]
    pairs = [
        _pair(scores, (names[i], names[j]), (runs[i], runs[j]))
        for i, j in itertools.combinations(range(len(rows)), 2)
    ]
    tested = [pair.p for pair in pairs if pair.p is not None]
    adjusted = iter(stats.holm(tested))
    pairs = [
        pair if pair.p is None else _claimed(pair, next(adjusted), len(tested), scores)
        for pair in pairs
    ]
    ranking = None
    if len(rows) > 2:
        by_dataset = [_by_dataset(own) for own in runs]
        better = scores.higher_is_better
        ranking = rank(names, by_dataset, scores.datasets, higher_is_better=better)
    return Comparison(
        suites=scores.suites,
        metric=scores.metric,
        higher_is_better=scores.higher_is_better,
        variants=tuple(names),
        pairs=tuple(pairs),
        ranking=ranking,
        provenance=provenance or {},
    )


_Runs = dict[tuple[str, int | None], float]
"""Scores by data set and seed; nan for a planned run without one."""


def _find(labels: Sequence[str], name: str) -> int:
    found = [at for at, label in enumerate(labels) if label == name]
    found = found or [at for at, label in enumerate(labels) if label.startswith(name)]
    if len(found) == 1:
        return found[0]
    what = "which several names begin with" if found else "which no name begins with"
    listed = ", ".join(printable(labels[at]) for at in found or range(len(labels)))
    raise TableError(f"variant: {name!r} given, {what}; allowed: {listed}")


def _runs(scores: Scores, row: int, label: str) -> _Runs:
    """The row's planned cells; those whose seed is not known yet are one per data set."""
    runs: _Runs = {}
    for at in np.flatnonzero(scores.row_N == row).tolist():
        dataset, seed = scores.datasets[scores.dataset_N[at]], scores.seed_N[at]
        key = dataset, None if np.isnan(seed) else int(seed)
        if key in runs and key[1] is not None:
            raise TableError(
                f"{label}: two runs on {dataset} with seed {key[1]} given, allowed: one"
            )
        runs[key] = np.nan if key[1] is None else float(scores.score_N[at])
    return runs


def _by_dataset(runs: _Runs) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (dataset, _), score in runs.items():
        found.setdefault(dataset, []).append(score)
    return found


def _pair(scores: Scores, names: tuple[str, str], runs: tuple[_Runs, _Runs]) -> Pair:
    both: dict[str, list[tuple[float, float]]] = {}
    missing = []
    for dataset, seed in sorted(
        {*runs[0], *runs[1]},
        key=lambda key: (scores.datasets.index(key[0]), key[1] is None, key[1] or 0),
    ):
        a, b = (own.get((dataset, seed), np.nan) for own in runs)
        if np.isfinite([a, b]).all():
            both.setdefault(dataset, []).append((a, b))
            continue
        lacking = [
            f"{name} {'has no score' if (dataset, seed) in own else 'is not planned'}"
            for name, own, score in zip(names, runs, (a, b), strict=True)
            if not np.isfinite(score)
        ]
        which = "a seed not known yet" if seed is None else f"seed {seed}"
        missing.append(f"{dataset}, {which}: {' and '.join(lacking)}")
    count = sum(map(len, both.values()))
    pair = Pair(a=names[0], b=names[1], pairs=count, missing=tuple(missing), datasets=len(both))
    return _measured(scores, pair, both) if both else pair


def _measured(
    scores: Scores, pair: Pair, both: Mapping[str, Sequence[tuple[float, float]]]
) -> Pair:
    sign = 1 if scores.higher_is_better else -1
    strata = [np.array(scores_S2) for scores_S2 in both.values()]
    differences = [stratum[:, 0] - stratum[:, 1] for stratum in strata]
    groups = dict(zip(scores.datasets, scores.groups, strict=True))
    found = stats.paired(differences, stats.group_weights([groups[dataset] for dataset in both]))
    test = stats.wilcoxon(differences)
    better = stats.probability_of_improvement(
        *([sign * s[:, side] for s in strata] for side in (0, 1))
    )
    # To twelve decimals, as the test does: rounding errors are no differences.
    gains = [sign * round(float(difference.mean()), 12) for difference in differences]
    return replace(
        pair,
        better_on=sum(gain > 0 for gain in gains),
        worse_on=sum(gain < 0 for gain in gains),
        difference=found.difference,
        interval=found.interval,
        effect_size=found.effect_size,
        statistic=test.statistic,
        p=test.p,
        improvement=better.probability,
        improvement_interval=better.interval,
        claim=f"no claim: {test.reason}",
    )


def _claimed(pair: Pair, p_holm: float, tests: int, scores: Scores) -> Pair:
    """The pair with its corrected p and with what follows from it."""
    return replace(pair, p_holm=p_holm, claim=_claim(pair, p_holm, tests, scores))


def _claim(pair: Pair, p_holm: float, tests: int, scores: Scores) -> str:
    assert pair.difference is not None
    assert pair.interval is not None
    if p_holm >= ALPHA:
        floor = min(1.0, tests * least_p(pair.pairs))
        why = f"; {pair.pairs} pairs cannot give less than {floor:.3g}" if floor >= ALPHA else ""
        return f"no claim: p = {p_holm:.3g}, needed below {ALPHA}{why}"
    low, high = sorted(map(abs, pair.interval))
    if pair.interval.low <= 0 <= pair.interval.high:
        return "no claim: the interval of the difference holds 0"
    ahead = (pair.difference > 0) == scores.higher_is_better
    better, worse = (pair.a, pair.b) if ahead else (pair.b, pair.a)
    return (
        f"{better} is better than {worse} in {scores.metric} on {pair.datasets} data set"
        f"{'' if pair.datasets == 1 else 's'}, by {abs(pair.difference):.4f} "
        f"[{low:.4f}, {high:.4f}], p = {p_holm:.3g}" + _lacking(pair)
    )


def _lacking(pair: Pair) -> str:
    """What a claim has to say of the pairs that it is not made on."""
    lost = len(pair.missing)
    verb = "is" if lost == 1 else "are"
    return f"; {lost} of {pair.pairs + lost} pairs {verb} missing" if lost else ""
