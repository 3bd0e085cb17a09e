"""The application object, exit codes and the options that several commands share."""

from __future__ import annotations

import enum
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from results.place import Place, place_of

app = typer.Typer(
    name="peftgrid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Compare parameter-efficient fine-tuning methods on Vision Transformers.\n\n"
        "Write a suite (methods x ranks x data sets x seeds) as one YAML file, run it as Ray Train "
        "jobs, and query the Parquet tables it fills.\n\n"
        "[bold]First steps[/bold]: `peftgrid run quickstart`, then `peftgrid table quickstart`.\n\n"
        "[bold]Exit codes[/bold]: 0 all wanted runs done; 1 internal error; 2 usage or invalid "
        "suite; 3 finished with failed runs; 4 stopped or incomplete; 5 another driver has the suite; "
        "6 cluster or storage unreachable; 7 store damaged; 130, 143 signals."
    ),
)


class ExitCode(enum.IntEnum):
    """What the shell sees."""

    DONE = 0
    USAGE = 2
    FAILED_RUNS = 3
    INCOMPLETE = 4
    HELD = 5
    UNREACHABLE = 6
    DAMAGED = 7
    INTERRUPTED = 130


SuiteArgument = Annotated[
    str, typer.Argument(help="A suite file, or the name of a shipped suite such as `quickstart`.")
]
StoreOption = Annotated[
    Place,
    typer.Option(
        "--store",
        parser=place_of,
        metavar="PLACE",
        help="The folder, or `s3://BUCKET/PREFIX`, that holds claims, attempts and tables.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value, e.g. `--set train.epochs=1`; recorded."),
]


def _known_metric(metric: str) -> str:
    from results import metrics

    split, _, name = metric.partition("/")
    if split not in ("train", "val", "test") or name not in metrics.names():
        raise typer.BadParameter(
            f"{metric!r} given, allowed: train/, val/ or test/ before {', '.join(metrics.names())}"
        )
    return metric


MetricOption = Annotated[
    str,
    typer.Option(
        "--metric", callback=_known_metric, help="What is compared: split/metric, e.g. `test/nll`."
    ),
]
SuiteName = Annotated[
    str | None, typer.Argument(help="A suite's name; by default all of the store.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DEFAULT_STORE = Path("runs")
DEFAULT_METRIC = "test/top1"
WIDTH = 120
"""Characters of a terminal into which a leaderboard fits unless it is told otherwise."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("peftgrid"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of the program itself; the text that people see is given to `app`."""


def echo(text: str = "") -> None:
    """Print a result on standard output."""
    typer.echo(text)


def echo_json(value: Any) -> None:
    """Print a result as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))


def show(rows: list[dict[str, str]], as_json: bool) -> None:
    """Print rows, all with the same keys, as a table or as JSON."""
    if as_json:
        echo_json(rows)
        return
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for cells in ({key: key for key in widths}, *rows):
        echo("  ".join(cells[key].ljust(width) for key, width in widths.items()).rstrip())


def exit_code(counts: Mapping[str, int]) -> ExitCode:
    """How a suite stands, by how many of its runs have each status."""
    if any(counts.get(status) for status in ("missing", "queued", "running", "stopped")):
        return ExitCode.INCOMPLETE
    if counts.get("failed"):  # also where final runs wait for tuning runs that failed
        return ExitCode.FAILED_RUNS
    return ExitCode.INCOMPLETE if counts.get("waiting") else ExitCode.DONE


def fail(message: str, code: int) -> NoReturn:
    """Say on standard error why nothing was done, and end."""
    typer.echo(f"peftgrid: {message}", err=True)
    sys.exit(code)
