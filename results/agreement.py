"""Trained runs against each other image by image, from the predictions that the store keeps.

Variants are taken on one data set, seed by seed: each seed that all of them have predictions for gives
McNemar's test of every pair of runs, how alike they predict, and what they score together. McNemar's
test is about two trained models on these images; what holds of methods over seeds is `compare`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from results import predictions, stats
from results.errors import StoreError, TableError
from results.formats import printable
from results.predictions import Predictions, Rule
from results.scores import Scores
from results.stats.mcnemar import mcnemar
from results.store import Store


@dataclass(frozen=True, kw_only=True)
class ImageTest:
    """McNemar's test of the runs of `a` and `b` with one seed."""

    a: str
    b: str
    seed: int
    images: int
    only_a: int
    """Images that the run of `a` alone gets right."""
    only_b: int
    p: float
    """Exact, two-sided, not corrected."""
    p_holm: float
    """Corrected for all tests of the agreement."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """V variants on one data set; numbers are means over the seeds that all of them have."""

    dataset: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    images: int
    top1: tuple[float, ...]
    """Of each variant."""
    agreement: tuple[tuple[float, ...], ...]
    """V x V: fraction of the images that both give the same class, right or wrong."""
    shared_errors: tuple[tuple[float | None, ...], ...]
    """V x V: images that both get wrong, of those that either gets wrong; None where neither errs."""
    tests: tuple[ImageTest, ...]
    ensembles: Mapping[str, float]
    """Rule -> top-1 of the V runs of a seed together."""
    any_right: float
    """Fraction of the images that at least one of the V runs gets right: no ensemble has more."""
    missing: tuple[str, ...]
    """Seeds that were left out, each with what is missing."""


def agree(store: Store, scores: Scores, rows: Sequence[int], dataset: str) -> Agreement:
    """The agreement of the variants in those `rows` of the scores.

    Raises TableError for a data set that is not in the scores, where no seed has predictions of all, or
    where runs did not score the same images.
    """
    if dataset not in scores.datasets:
        known = ", ".join(map(printable, scores.datasets))
        raise TableError(f"data set: {printable(dataset)} given, allowed: {known}")
    labels = scores.labels()
    names = tuple(labels[row] for row in rows)
    by_seed, missing = _predictions(store, scores, rows, dataset)
    if not by_seed:
        listed = "; ".join(missing) or "none is planned"
        raise TableError(
            f"{printable(dataset)}: no seed with stored predictions of all of "
            f"{', '.join(map(printable, names))} ({listed}); allowed: suites whose "
            "`store: {predictions: ...}` keeps them"
        )
    try:
        overlaps = [
            predictions.overlap(dict(zip(names, own, strict=True))) for own in by_seed.values()
        ]
        ensembles = {
            rule: float(
                np.mean(
                    [
                        predictions.ensemble_top1(dict(zip(names, own, strict=True)), rule)
                        for own in by_seed.values()
                    ]
                )
            )
            for rule in get_args(Rule)
        }
    except ValueError as error:
        raise TableError(f"{printable(dataset)}: {error}") from error
    correct_SVN = np.array([[predictions.correct(one) for one in own] for own in by_seed.values()])
    return Agreement(
        dataset=dataset,
        variants=names,
        seeds=tuple(by_seed),
        images=correct_SVN.shape[2],
        top1=tuple(correct_SVN.mean(axis=(0, 2)).tolist()),
        agreement=tuple(
            map(tuple, np.mean([overlap.agreement_VV for overlap in overlaps], axis=0).tolist())
        ),
        shared_errors=_mean([overlap.shared_errors_VV for overlap in overlaps]),
        tests=_tests(names, tuple(by_seed), correct_SVN),
        ensembles=ensembles,
        any_right=float(correct_SVN.any(axis=1).mean()),
        missing=tuple(missing),
    )


def _predictions(
    store: Store, scores: Scores, rows: Sequence[int], dataset: str
) -> tuple[dict[int, list[Predictions]], list[str]]:
    """By seed the predictions of every row, for the seeds that all have; and what the others lack."""
    here_N = scores.dataset_N == scores.datasets.index(dataset)
    columns = ("status", "predictions_file", "predictions_digest")
    held = {run["run_id"]: run for run in store.runs(columns).to_pylist()}
    ids = scores.plans["run_id"].to_pylist()
    labels = scores.labels()
    seeds = sorted({int(seed) for seed in scores.seed_N[here_N].tolist() if not np.isnan(seed)})
    found: dict[int, list[Predictions]] = {}
    missing = []
    for seed in seeds:
        own, lacking = [], []
        for row in rows:
            cells = np.flatnonzero(here_N & (scores.row_N == row) & (scores.seed_N == seed))
            run = held.get(ids[cells[0]]) if len(cells) == 1 else None
            if run is None or run["predictions_file"] is None:
                lacking.append(labels[row])
                continue
            try:
                own.append(predictions.predictions_of(store, run))
            except StoreError as error:
                lacking.append(f"{labels[row]} ({error})")
        if lacking:
            missing.append(f"seed {seed}: {', '.join(map(printable, lacking))}")
        else:
            found[seed] = own
    return found, missing


def _tests(
    names: Sequence[str], seeds: Sequence[int], correct_SVN: NDArray[np.bool_]
) -> tuple[ImageTest, ...]:
    tests = []
    images = correct_SVN.shape[2]
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        for seed, correct_VN in zip(seeds, correct_SVN, strict=True):
            found = mcnemar(correct_VN[i], correct_VN[j])
            tests.append(
                ImageTest(
                    a=a,
                    b=b,
                    seed=seed,
                    images=images,
                    only_a=found.only_a,
                    only_b=found.only_b,
                    p=found.p,
                    p_holm=found.p,
                )
            )
    adjusted = stats.holm([test.p for test in tests])
    return tuple(replace(test, p_holm=p) for test, p in zip(tests, adjusted, strict=True))


def _mean(matrices: Sequence[NDArray[np.float64]]) -> tuple[tuple[float | None, ...], ...]:
    """The mean over seeds; None where a seed has no number."""
    mean_VV = np.mean(matrices, axis=0)
    return tuple(tuple(None if np.isnan(x) else float(x) for x in line) for line in mean_VV)
