"""Commands that look at a suite and start nothing: validate, plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import (
    DEFAULT_STORE,
    JsonOption,
    SetOption,
    StoreOption,
    SuiteArgument,
    app,
    echo,
    echo_json,
)
from orchestrator.cli.datasets import DataRootOption, use_data_root
from orchestrator.cli.start import ParallelOption, existing, load_suite

if TYPE_CHECKING:
    from orchestrator.capacity import Capacity


@app.command()
def validate(
    suite: SuiteArgument, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Check a suite file: every mistake at once, each with its place."""
    loaded = load_suite(suite, overrides)
    cells = sum(1 for _ in loaded.cells())
    final = sum(group.final_count for group in loaded.groups())
    if as_json:
        echo_json({"suite": loaded.name, "cells": cells, "final_cells": final})
    else:
        rest = f" and {final} final runs once they are selected" if final else ""
        echo(f"{loaded.name}: valid, {cells} runs{rest}")


@app.command()
def plan(
    suite: SuiteArgument,
    store: StoreOption = DEFAULT_STORE,
    data_root: DataRootOption = None,
    overrides: SetOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="A running Ray whose size to plan for; by default this machine's."
        ),
    ] = None,
    max_parallel: ParallelOption = None,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Show what changed since the suite was last run, and why."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a suite asks for and what the store already has; start nothing."""
    from orchestrator.capacity import here
    from orchestrator.cli.diff_text import print_diff
    from orchestrator.cli.plan_text import print_plan
    from orchestrator.diff import compare
    from orchestrator.plan import make_plan

    use_data_root(data_root)
    loaded, found = load_suite(suite, overrides), existing(store)
    planned = make_plan(loaded, found)
    if diff:
        stored = found.plan(loaded.name) if found else []
        print_diff(loaded, compare(loaded, planned, stored), as_json)
    else:
        from orchestrator.expected import of_plan

        capacity = here() if address is None else _at(address)
        print_plan(
            loaded, planned, as_json, of_plan(loaded, planned, found, capacity, max_parallel)
        )


def _at(address: str) -> Capacity:
    """What the Ray at `address` has."""
    from orchestrator import cluster

    with cluster.running(address, cpus=None, threads=1) as found:
        return found.capacity()
