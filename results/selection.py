"""Choosing one configuration out of several by its validation scores: a pure function.

The winner has the best mean over seeds. A candidate that misses the score of any seed that
another one has cannot win. Ties (equal but for rounding) go to fewer trainable parameters, then
to the order on the axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.errors import SelectionError as SelectionError


@dataclass(frozen=True, kw_only=True)
class CandidateScores:
    """One configuration and what it scored with each seed."""

    config_id: str
    order: int
    """Place on the axes of the suite."""
    trainable_params: int
    scores: Mapping[int, float | None]
    """By seed; None (or nan) where the run has none."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Who won and how."""

    winner: str
    tied: int
    """How many candidates shared the best mean, the winner included; 1 is no tie."""
    incomplete: tuple[str, ...]
    """Candidates that could not be chosen, because they miss seeds."""
    reason: str


def select(candidates: Sequence[CandidateScores], *, higher_is_better: bool) -> Selection:
    """The winner of the candidates; SelectionError where none of them is complete."""
    seeds = {seed for candidate in candidates for seed in candidate.scores}
    means: dict[str, float] = {}
    for candidate in candidates:
        scores = [candidate.scores.get(seed) for seed in sorted(seeds)]
        known = [score for score in scores if score is not None and math.isfinite(score)]
        if seeds and len(known) == len(seeds):
            means[candidate.config_id] = math.fsum(known) / len(known)
    incomplete = tuple(c.config_id for c in candidates if c.config_id not in means)
    if not means:
        raise SelectionError(
            f"{len(candidates)} candidates given, none with a score for each of the "
            f"{len(seeds)} seeds; allowed: at least one complete"
        )
    best = max(means.values()) if higher_is_better else min(means.values())
    tied = [
        candidate
        for candidate in candidates
        if candidate.config_id in means
        and math.isclose(means[candidate.config_id], best, rel_tol=1e-12, abs_tol=1e-15)
    ]
    winner = min(tied, key=lambda candidate: (candidate.trainable_params, candidate.order))
    reason = f"best mean {best:.6g} over {len(seeds)} seeds of {len(means)} complete candidates"
    if len(tied) > 1:
        reason += f"; {len(tied)} tied, so fewest trainable parameters, then axis order"
    if incomplete:
        reason += f"; {len(incomplete)} miss seeds"
    return Selection(winner=winner.config_id, tied=len(tied), incomplete=incomplete, reason=reason)
