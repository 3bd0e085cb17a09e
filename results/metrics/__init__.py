"""Metrics over the logits of a whole split, never a mean over batches. A new file is a new metric.

A metric is one module. Its file name is its name. It offers `HIGHER_IS_BETTER` and
`compute(logits (N, C), labels (N,)) -> float`. Logits that are not all finite have no score:
every metric is nan then. Files that start with an underscore are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any, Protocol, cast

from numpy.typing import NDArray


class Metric(Protocol):
    """What a file in `results/metrics/` offers."""

    HIGHER_IS_BETTER: bool

    def compute(self, logits: NDArray[Any], labels: NDArray[Any], /) -> float:
        """The metric of N images: float logits (N, C) and integer labels (N,)."""


@cache
def names() -> tuple[str, ...]:
    """The names of all metrics, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> Metric:
    """The module of the metric called `name`; ValueError names those that exist."""
    if name not in names():
        raise ValueError(f"metric: {name!r} given, allowed: {', '.join(names())}")
    return cast(Metric, importlib.import_module(f"{__name__}.{name}"))


def all_metrics() -> dict[str, Metric]:
    """Every metric by its name."""
    return {name: load(name) for name in names()}
