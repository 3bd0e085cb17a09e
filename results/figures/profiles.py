"""Performance profiles: the fraction of runs that score better than tau, for every tau.

    fraction(tau) = mean over data sets of the share of seeds with score > tau

(score < tau where lower is better). The band is the 95 % percentile bootstrap at each tau, seeds
drawn within each data set; a line that lies above another everywhere is better whatever one asks
for. Agarwal et al. 2021, arXiv 2108.13264 (rliable): with as many seeds on each data set the
fraction is theirs, over all runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from results import stats
from results.errors import FigureError
from results.figures._drawing import Drawing, Request, no_row, unfinished
from results.formats import printable
from results.scores import Floats
from results.stats import MIN_SEEDS
from results.table import RESAMPLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIONS: tuple[str, ...] = ()


class Profile(NamedTuple):
    """One variant. Shapes: K different scores, ascending."""

    label: str
    tau_K: Floats
    fraction_K: Floats
    """From this tau to the next one; before the first it is 1 (0 where lower is better)."""
    band_K2: Floats | None


def profile(
    strata: Sequence[Floats], *, higher_is_better: bool = True
) -> tuple[Floats, Floats, Floats | None]:
    """Scores (K), fraction from each on (K) and band (K, 2); no band below three seeds on a data set."""
    counts = [len(stratum) for stratum in strata]
    score_N = np.concatenate(strata)
    tau_K = np.unique(score_N)
    # Both ways the share from this score on, up to the next one.
    better_KN = score_N > tau_K[:, None] if higher_is_better else score_N <= tau_K[:, None]
    share_N = np.repeat(1 / (len(counts) * np.asarray(counts)), counts)
    found_KN = better_KN.astype(np.float64)
    band = stats.mean_intervals(found_KN, counts, resamples=RESAMPLES)
    return tau_K, found_KN @ share_N, band


def work_out(request: Request) -> Drawing:
    """The profiles of complete variants; FigureError where there is none."""
    from results.figures import _lines

    scores, rows = request.scores, request.board.rows
    whole = [row.label for row in rows if row.mean is not None]
    if not whole:
        raise FigureError(f"profiles: {no_row(rows)}")
    labels = scores.labels()
    profiles = []
    for label in whole:
        mine = scores.row_N == labels.index(label)
        strata = [
            scores.score_N[mine & (scores.dataset_N == dataset)]
            for dataset in range(len(scores.datasets))
        ]
        found = profile(strata, higher_is_better=scores.higher_is_better)
        profiles.append(Profile(label, *found))
    sign = ">" if scores.higher_is_better else "<"
    chunks = _lines.chunks(range(len(profiles)))
    middles = "; ".join(f"{printable(p.label)} {_median(p):.4f}" for p in profiles)
    return Drawing(
        title=f"{', '.join(scores.suites)}: performance profiles of {request.metric}",
        says=(
            f"Fraction of runs with {request.metric} {sign} tau, a falling or rising step line for each "
            f"of {len(profiles)} variants. Where half of the runs are reached: {middles}."
        ),
        columns=("variant", "tau", "fraction", "low", "high"),
        records=tuple(
            (p.label, *numbers, *(band or (None, None)))
            for p in profiles
            for *numbers, band in zip(
                p.tau_K.tolist(),
                p.fraction_K.tolist(),
                [None] * len(p.tau_K) if p.band_K2 is None else p.band_K2.tolist(),
                strict=True,
            )
        ),
        remarks=tuple(_remarks(request, profiles, sign)),
        size=_lines.size(whole, chunks, 1),
        paint=lambda figure: _paint(figure, profiles, chunks, f"{request.metric}, tau", sign),
    )


def _median(profile: Profile) -> float:
    """The first tau at which the fraction is past one half."""
    past = profile.fraction_K <= 0.5 if profile.fraction_K[-1] == 0 else profile.fraction_K >= 0.5
    return float(profile.tau_K[int(np.argmax(past))])


def _remarks(request: Request, profiles: Sequence[Profile], sign: str) -> list[str]:
    said = [
        f"line: share of runs with a score {sign} tau, each data set counting the same; higher is better"
    ]
    bare = [p.label for p in profiles if p.band_K2 is None]
    if len(bare) < len(profiles):
        said.append("band: 95 % percentile bootstrap at each tau, seeds drawn within each data set")
    if bare:
        which = "" if len(bare) == len(profiles) else f" of {', '.join(bare)}"
        said.append(f"no band{which}: it needs {MIN_SEEDS} seeds on every data set")
    return said + unfinished(request.board.rows)


def _marked(steps: int, place: int) -> list[int]:
    """The steps that have a marker: a few, at other places for each line."""
    return list(range(1 + place % 3 % steps, steps + 1, max(1, steps // 5)))


def _paint(
    figure: Figure,
    profiles: Sequence[Profile],
    chunks: Sequence[Sequence[int]],
    axis: str,
    sign: str,
) -> None:
    from results.figures import _lines
    from results.figures._style import Style

    every = np.concatenate([p.tau_K for p in profiles])
    margin = 0.04 * float(np.ptp(every)) or 0.05
    low, high = float(every.min()) - margin, float(every.max()) + margin
    ends = (1.0, 0.0) if sign == ">" else (0.0, 1.0)

    def fill(at: int, axes: Axes, _: int, __: float) -> None:
        for place, line in enumerate(chunks[at]):
            look, mine = Style.of(place), profiles[line]
            tau = np.concatenate([[low], mine.tau_K, [high]])
            fraction = np.concatenate([ends[:1], mine.fraction_K, ends[1:]])
            if mine.band_K2 is not None:
                low_K, high_K = (
                    np.concatenate([ends[:1], mine.band_K2[:, k], ends[1:]]) for k in (0, 1)
                )
                axes.fill_between(
                    tau, low_K, high_K, step="post", color=look.color, alpha=0.15, lw=0
                )
            axes.plot(
                *(tau, fraction),
                **look._asdict(),
                drawstyle="steps-post",
                lw=1.2,
                ms=4.5,
                markevery=_marked(len(mine.tau_K), place),
                gid=f"profile-{line}",
            )
        axes.set_xlim(low, high)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(True)
        axes.set_ylabel(f"share of runs {sign} tau")
        if at == len(chunks) - 1:
            axes.set_xlabel(axis)

    names = [p.label for p in profiles]
    _lines.paint(figure, names, chunks, [""] * len(chunks), 1, fill)
