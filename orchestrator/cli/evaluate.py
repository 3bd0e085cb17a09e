"""evaluate: what trained runs score on further sets, and between start and end (WiSE)."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from orchestrator.cli.app import (
    DEFAULT_STORE,
    ExitCode,
    JsonOption,
    StoreOption,
    app,
    echo,
    echo_json,
    fail,
)
from orchestrator.cli.datasets import DataRootOption, use_data_root


class Wise(enum.StrEnum):
    """What a WiSE path moves."""

    all = "all"
    head = "head"


class Device(enum.StrEnum):
    """Where `evaluate` computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@app.command()
def evaluate(
    suite: Annotated[str, typer.Argument(help="A suite's name.")],
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            help="A set: `own` (the default), a data set as suites name it, either with a corruption and "
            "its severity, e.g. `own+jpeg:3`; without a severity all five. Repeatable.",
        ),
    ] = None,
    wise: Annotated[
        Wise | None,
        typer.Option(
            "--wise",
            help="The path from before training to after it: `all` that the run changed, or the `head`.",
        ),
    ] = None,
    alphas: Annotated[
        int, typer.Option("--alphas", min=2, help="Models on that path, both ends included.")
    ] = 11,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Also the model before training.")
    ] = False,
    device: Annotated[
        Device, typer.Option("--device", help="`auto` takes a GPU where there is one.")
    ] = Device.auto,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Of the CPU; by default as many as a job has.")
    ] = 1,
    store: StoreOption = DEFAULT_STORE,
    data_root: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the finished runs of a suite on further test sets; trains nothing, repeats nothing.

    It computes in this process and keeps rows in the table `evaluations`. For example:
    peftgrid evaluate quickstart --on own+gaussian_noise:3 --wise all
    """
    import torch

    from adapters.warm import Warm
    from orchestrator import evaluate as evaluation
    from results.store import Store
    from suites.sets import read_sets

    use_data_root(data_root)
    sets = read_sets(on or ["own"])
    has_cuda = torch.cuda.is_available()
    if device is Device.cuda and not has_cuda:
        fail("--device: cuda given, which torch does not see here; allowed: cpu", ExitCode.USAGE)
    where = torch.device("cuda" if has_cuda and device is not Device.cpu else "cpu")
    wanted = evaluation.points("trained", 1)
    wanted += evaluation.points("zero_shot", 1) if zero_shot else []
    wanted += evaluation.points(wise.value, alphas) if wise else []
    opened, usual = Store.open(store.resolve()), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _bar() as on_row:
            found = evaluation.evaluate(opened, suite, sets, wanted, Warm(where), threads, on_row)
    finally:
        torch.set_num_threads(usual)
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        echo(f"{suite}: {found.runs} runs scored; {found.made} rows made, {found.known} were there")
        for run, reason in found.left_out.items():
            echo(f"left out: {run}: {reason}")
        echo(f'look with: peftgrid query "{_QUERY}"')
    if found.left_out:
        raise typer.Exit(ExitCode.FAILED_RUNS)


_QUERY = (
    "SELECT variant, set, mode, alpha, avg(e.top1) AS top1 FROM evaluations e JOIN runs USING (run_id) "
    "GROUP BY ALL ORDER BY ALL"
)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Shows how many rows are made, on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Evaluating", total=None)
        yield lambda done, rows: progress.update(task, completed=done, total=rows)
