"""Figures of a store: `figure`, any kind as a file, and `pareto`, the numbers with or without one."""

from __future__ import annotations

import enum
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import (
    DEFAULT_METRIC,
    DEFAULT_STORE,
    JsonOption,
    MetricOption,
    StoreOption,
    SuiteName,
    app,
    echo,
)
from results import figures
from results.place import Place

if TYPE_CHECKING:
    from results.figures._drawing import Picture


class Cost(enum.StrEnum):
    """What `pareto` sets the metric against."""

    trainable_params = "trainable_params"
    peak_memory_bytes = "peak_memory_bytes"
    epoch_seconds = "epoch_seconds"


AgainstOption = Annotated[
    Cost | None, typer.Option("--against", help="Of pareto: the cost; by default trainable_params.")
]


@app.command()
def pareto(
    suite: SuiteName = None,
    against: AgainstOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Draw it, too: a file .svg or .png.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    metric: MetricOption = DEFAULT_METRIC,
    as_json: JsonOption = False,
) -> None:
    """The metric against a cost, and which variants are on the front, intervals considered.

    For example: peftgrid pareto quickstart --against epoch_seconds --out pareto.svg
    """
    _show("pareto", suite, store, metric, out, as_json, _given(against=against))


@app.command()
def figure(
    kind: Annotated[str, typer.Argument(help=f"What to draw: {', '.join(figures.names())}.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write: .svg or .png.")],
    suite: SuiteName = None,
    against: AgainstOption = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Of curves, ranks, overlap: this data set alone; the first two take several.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    metric: MetricOption = DEFAULT_METRIC,
    as_json: JsonOption = False,
) -> None:
    """Draw a figure as SVG or PNG and print its numbers.

    For example: peftgrid figure curves quickstart --out curves.svg
    """
    options = _given(against=against, datasets=tuple(dataset or ()))
    _show(kind, suite, store, metric, out, as_json, options)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _show(
    kind: str,
    suite: str | None,
    store: Place,
    metric: str,
    out: Path | None,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    from orchestrator.provenance import of_table
    from results.figures._drawing import form_of
    from results.store import Store

    if out is not None:
        form_of(out)
    path = store.resolve()
    opened = Store.open(path)
    picture = figures.make(opened, kind, suite, metric=metric, provenance=of_table(path), **options)
    if out is not None:
        _save(picture, out)
    for bad, reason in opened.bad_files:
        typer.echo(f"peftgrid: set aside {bad}: {reason}", err=True)
    echo((picture.to_json() if as_json else picture.to_text()).removesuffix("\n"))
    if out is not None and not as_json:
        echo(f"drawn: {out}")


def _save(picture: Picture, out: Path) -> None:
    # It says that it looks for fonts the first time; that is no news to whoever wants a figure.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    picture.save(out)
