"""Figures of a store, as SVG and PNG. A new file is a new figure.

A figure is one module; its file name is its kind and its docstring says what it shows. It offers

* `OPTIONS`: the names of the fields of `Request` that it takes besides store, suite and metric;
* `work_out(request) -> Drawing`: the numbers, what is said of them, and what paints them.

Everything that is drawn is a number of the table beside it, and nothing is drawn that is not
whole: what was left out is named with the reason in the caption. Lines and points differ in shape
as well as in colour. matplotlib is loaded when a file is made, so numbers alone stay quick. Files
that start with an underscore are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from results.errors import FigureError as FigureError

if TYPE_CHECKING:
    from results.figures._drawing import Drawing, Picture, Request
    from results.store import Store


class Kind(Protocol):
    """What a file in `results/figures/` offers."""

    OPTIONS: tuple[str, ...]

    def work_out(self, request: Request, /) -> Drawing:
        """The figure before it is drawn."""


@cache
def names() -> tuple[str, ...]:
    """The kinds of figure, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(kind: str) -> Kind:
    """The module of a kind of figure; FigureError names those that exist."""
    if kind not in names():
        raise FigureError(f"kind: {kind!r} given, allowed: {', '.join(names())}")
    return cast(Kind, importlib.import_module(f"{__name__}.{kind}"))


def make(
    store: Store,
    kind: str,
    suite: str | None = None,
    *,
    metric: str = "test/top1",
    provenance: Mapping[str, str] | None = None,
    **options: Any,
) -> Picture:
    """The figure of a suite, or of all suites together; `metric` is `split/metric`.

    `options` are those that the kind takes. Raises FigureError for any other and where there is
    nothing that may be drawn, TableError for what makes no table.
    """
    from results.figures._drawing import Picture, Request

    module = load(kind)
    for name, value in options.items():
        if name not in module.OPTIONS:
            takes = f"by a figure that takes it; {kind} takes {', '.join(module.OPTIONS) or 'none'}"
            raise FigureError(f"{name}: {value!r} given, allowed: {takes}")
    request = Request(store=store, suite=suite, metric=metric, **options)
    return Picture(
        kind=kind,
        suites=request.scores.suites,
        metric=metric,
        provenance=provenance or {},
        drawing=module.work_out(request),
    )
