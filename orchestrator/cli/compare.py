"""compare: variants against each other, with what may be claimed of it."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from orchestrator.cli.app import (
    DEFAULT_METRIC,
    DEFAULT_STORE,
    MetricOption,
    StoreOption,
    app,
    echo,
)


class CompareFormat(enum.StrEnum):
    """How `compare` prints."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    json = "json"


@app.command()
def compare(
    variants: Annotated[
        list[str],
        typer.Argument(
            help="Two or more variants by the names that `table` shows; a beginning is enough."
        ),
    ],
    suite: Annotated[
        str | None, typer.Option("--suite", help="A suite's name; by default all of the store.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    metric: MetricOption = DEFAULT_METRIC,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            help="A data set: compare the stored predictions on its test images, too (McNemar).",
        ),
    ] = None,
    form: Annotated[
        CompareFormat, typer.Option("--format", help="How to print.")
    ] = CompareFormat.text,
) -> None:
    """Compare variants, paired by data set and seed: difference, interval, tests, what may be claimed.

    For example: peftgrid compare lora ia3 --suite quickstart
    """
    from orchestrator.provenance import of_table
    from results.compare import compare as run_compare
    from results.store import Store

    path = store.resolve()
    opened, said = Store.open(path), of_table(path)
    found = run_compare(opened, variants, suite, metric=metric, images=images, provenance=said)
    match form:
        case CompareFormat.text:
            echo(found.to_text())
        case CompareFormat.markdown:
            echo(found.to_markdown())
        case CompareFormat.latex:
            echo(found.to_latex())
        case CompareFormat.json:
            echo(found.to_json())
