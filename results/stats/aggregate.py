"""Numbers that sum up many scores: interquartile mean, group weights, ranks and wins.

Shapes: R rows (variants), T data sets, N runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
CUT = 0.25
"""Share of the runs that the interquartile mean leaves out at either end."""


def iqm(scores: ArrayLike) -> Floats:
    """The interquartile mean over the last axis (..., N) -> (...): runs and data sets are one pool.

    floor(N / 4) runs are left out at either end, whole ones only, as rliable and scipy's
    trim_mean do. Agarwal et al. 2021, arXiv 2108.13264.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=-1)
    count = ordered.shape[-1]
    cut = int(CUT * count)
    mean: Floats = ordered[..., cut : count - cut].mean(axis=-1)
    return mean


def group_weights(groups: Sequence[Hashable]) -> Floats:
    """What each of T data sets counts in the mean of group means: 1 / (groups * size of its group).

    The habit of VTAB (Zhai et al. 2019, arXiv 1910.04867), whose groups are natural, specialised
    and structured. Data sets without a group (None) are a group together. The weights (T,) sum to 1.
    """
    _, code_T = np.unique([repr(group) for group in groups], return_inverse=True)
    size = np.bincount(code_T)
    weights: Floats = 1.0 / (len(size) * size[code_T])
    return weights


def ranks(scores_RT: ArrayLike, *, higher_is_better: bool = True) -> Floats:
    """The rank of each row on each data set, 1 the best; equal scores share the mean rank (R, T).

    rank = (rows that are better) + (1 + rows that are equal, itself included) / 2.
    """
    values = np.asarray(scores_RT, dtype=np.float64)
    if higher_is_better:
        values = -values
    found = np.empty_like(values)
    for column in range(values.shape[1]):
        ordered = np.sort(values[:, column])
        better = np.searchsorted(ordered, values[:, column], side="left")
        not_worse = np.searchsorted(ordered, values[:, column], side="right")
        found[:, column] = (better + not_worse + 1) / 2
    return found


def mean_ranks(scores_RT: ArrayLike, *, higher_is_better: bool = True) -> Floats:
    """The mean over data sets of `ranks`: (R, T) -> (R,)."""
    mean: Floats = ranks(scores_RT, higher_is_better=higher_is_better).mean(axis=1)
    return mean


def wins(scores_RT: ArrayLike, *, higher_is_better: bool = True) -> NDArray[np.int64]:
    """On how many data sets no other row is better: (R, T) -> (R,). Rows that share the best all win."""
    values = np.asarray(scores_RT, dtype=np.float64)
    best = values.max(axis=0) if higher_is_better else values.min(axis=0)
    count: NDArray[np.int64] = (values == best).sum(axis=1)
    return count
