"""Commands that start a suite: run, resume."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.app import (
    DEFAULT_STORE,
    WIDTH,
    ExitCode,
    JsonOption,
    SetOption,
    StoreOption,
    SuiteArgument,
    app,
    echo,
    echo_json,
    exit_code,
    fail,
)
from orchestrator.cli.datasets import DataRootOption, use_data_root
from orchestrator.cli.submit import HEAD
from orchestrator.cli.submit import options as _options
from orchestrator.cli.submit import start as submit_to
from results.place import Place

if TYPE_CHECKING:
    from orchestrator.outcome import Outcome
    from orchestrator.plan import Plan, Wanted
    from results.store import Store
    from suites.suite import Suite

_EXAMPLE = "SELECT variant, dataset, avg(test_top1) FROM runs GROUP BY ALL ORDER BY ALL"

AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="A running Ray to use; by default one is embedded."),
]
ParallelOption = Annotated[
    int | None, typer.Option("--max-parallel", min=1, help="At most this many jobs at once.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Print the plan and start nothing.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what failed.")]


@app.command()
def run(
    suite: SuiteArgument,
    store: StoreOption = DEFAULT_STORE,
    data_root: DataRootOption = None,
    overrides: SetOption = None,
    address: AddressOption = None,
    max_parallel: ParallelOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start the missing and unfinished runs of a suite. Failed ones stay as they are: see `resume`."""
    from orchestrator.plan import UNFINISHED_RUNS

    use_data_root(data_root)
    _drive(
        suite,
        store,
        overrides,
        address,
        max_parallel,
        dry_run,
        quiet,
        as_json,
        UNFINISHED_RUNS,
    )


@app.command()
def resume(
    suite: SuiteArgument,
    store: StoreOption = DEFAULT_STORE,
    data_root: DataRootOption = None,
    overrides: SetOption = None,
    address: AddressOption = None,
    max_parallel: ParallelOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only the failed runs, not the unfinished ones.")
    ] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only the unfinished runs, as `run` does.")
    ] = False,
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", help="Only the failed runs of these kinds: `worker_lost,stalled`."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="From the start instead of from checkpoints.")
    ] = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start the missing, unfinished and failed runs of a suite; finished ones are never repeated.

    Failed runs go on from their newest checkpoint, with fresh retry budgets. With an `--address` of
    http://HEAD:8265 it is submitted there, as by `submit`.
    """
    use_data_root(data_root)
    if address is not None and HEAD.match(address):
        words = ["resume", *_options(overrides, max_parallel)]
        chosen = {"--failed": failed, "--unfinished": unfinished, "--restart": restart}
        words += [flag for flag, given in chosen.items() if given]
        words += [] if kinds is None else ["--kinds", kinds]
        root = None if data_root is None else str(data_root)
        submit_to(address, suite, str(store), words, overrides, root, detach=False)
    _drive(
        suite,
        store,
        overrides,
        address,
        max_parallel,
        dry_run,
        quiet,
        as_json,
        _wanted(failed, unfinished, kinds),
        restart=restart,
    )


def _wanted(failed: bool, unfinished: bool, kinds: str | None) -> Wanted:
    """What `resume` starts: all but what succeeded, unless it is told less."""
    from orchestrator.plan import Wanted
    from results.schema import FAILURE_KINDS

    if unfinished and (failed or kinds is not None):
        fail("--unfinished given with --failed or --kinds; allowed: one of them", ExitCode.USAGE)
    named = None if kinds is None else frozenset(name.strip() for name in kinds.split(","))
    unknown = sorted((named or frozenset()) - set(FAILURE_KINDS))
    if unknown:
        fail(
            f"--kinds: {', '.join(map(repr, unknown))} given, allowed: {', '.join(FAILURE_KINDS)}",
            ExitCode.USAGE,
        )
    return Wanted(unfinished=not failed and named is None, failed=not unfinished, kinds=named)


def _drive(
    source: str,
    path: Place,
    overrides: list[str] | None,
    address: str | None,
    max_parallel: int | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    wanted: Wanted,
    *,
    restart: bool = False,
) -> None:
    from rich.console import Console

    from orchestrator import packages, progress
    from orchestrator.cli.plan_text import counted, print_plan
    from orchestrator.plan import make_plan
    from orchestrator.process import age
    from results.store import Store

    began = time.monotonic() - age()
    packages.check()
    suite = load_suite(source, overrides)
    if address is not None and HEAD.match(address):
        fail(f"--address: {address} given, which takes suites by `peftgrid submit`", ExitCode.USAGE)
    planned = make_plan(suite, existing(path))
    if dry_run:
        print_plan(suite, planned, as_json)
        if not as_json:
            echo(f"to start: {len(planned.to_do(wanted))} runs")
        return
    if planned.absent:
        needs = "\n".join(f"  {what}: {how}" for what, how in planned.absent.items())
        fail(f"{suite.name}: not on this machine, get it first:\n{needs}", ExitCode.USAGE)
    from orchestrator.driver import drive

    store = Store.open(path.resolve(), create=True)
    console = Console(stderr=True)
    with progress.view(console, quiet=quiet) as view:
        todo = planned.to_do(wanted)
        view.note(f"{suite.name}: {len(todo)} runs to start, {counted(planned.counts())}")
        outcome = drive(
            suite,
            store,
            view,
            wanted=wanted,
            restart=restart,
            address=address,
            max_parallel=max_parallel,
            began=began,
        )
    _report(suite, store, outcome, quiet=quiet, as_json=as_json)
    code = _exit_code(outcome, make_plan(suite, store))
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        sys.exit(code)  # Ray is the caller's, who goes on
    sys.stdout.flush()
    # Ray Train's threads may still be winding down; every result is committed, so nobody waits.
    os._exit(code)


def _exit_code(outcome: Outcome, planned: Plan) -> int:
    if outcome.signal is not None:
        return 128 + outcome.signal
    return ExitCode.INCOMPLETE if outcome.problem is not None else exit_code(planned.counts())


def _report(suite: Suite, store: Store, outcome: Outcome, *, quiet: bool, as_json: bool) -> None:
    """The leaderboard and where to go on."""
    from orchestrator.provenance import of_table
    from results.table import leaderboard

    if as_json:
        echo_json(
            {
                "suite": suite.name,
                "store": str(store.path),
                "started": outcome.started,
                "succeeded": outcome.succeeded,
                "failed": outcome.failed,
                "left": outcome.left,
                "seconds_to_first_step": outcome.seconds_to_first_step,
                "failures": [{"run_id": run, "error": error} for run, error in outcome.failures],
                "problem": outcome.problem,
            }
        )
        return
    if outcome.problem:
        typer.echo(f"peftgrid: {outcome.problem}", err=True)
    if not quiet:
        board = leaderboard(store, suite.name, provenance=of_table(store.path))
        echo(board.to_text(width=WIDTH))
        echo()
    echo(
        f"{suite.name}: {outcome.started} runs started, {outcome.succeeded} succeeded, "
        f"{outcome.failed} failed, {outcome.left} left. Tables: {store.path}"
    )
    where = "" if store.path == DEFAULT_STORE.resolve() else f" --store {store.path}"
    if not quiet:
        echo(f"Query them:  peftgrid query{where} {_EXAMPLE!r}")
    for run_id, error in outcome.failures:
        echo(f"failed: {run_id}: {error}")
    if outcome.failures:
        echo(f"Look closer: peftgrid explain {outcome.failures[0][0]}{where}")
        echo(f"Try again:   peftgrid resume {suite.name}{where}")


def load_suite(source: str, overrides: list[str] | None) -> Suite:
    """The suite in a file, or a shipped one, with what `--set` says."""
    from suites.load import load

    return load(source, overrides or [])


def existing(path: Place) -> Store | None:
    """The store if there is one; a path that cannot be one is an error, an empty folder may become one."""
    from results.folder import is_free
    from results.store import Store

    return None if is_free(path) else Store.open(path.resolve())
