"""Commands about a suite that somebody is running: watch, logs, stop. They use the store alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import (
    DEFAULT_STORE,
    ExitCode,
    JsonOption,
    StoreOption,
    app,
    echo,
    exit_code,
    fail,
)
from orchestrator.cli.submit import HeadOption, follow_newest, relay

if TYPE_CHECKING:
    from orchestrator.dispatch import Event
    from results.lease import Observer
    from results.store import Store

POLL_SECONDS = 1.0
_SHOWN = (
    *("run_id", "attempt", "variant", "dataset", "seed", "status", "failure_kind", "error"),
    *("val_top1", "test_top1", "wall_seconds", "job", "hostname", "ended_at"),
)

SuiteOfStore = Annotated[str, typer.Argument(help="The name of a suite.")]


@app.command()
def watch(
    suite: SuiteOfStore,
    store: StoreOption = DEFAULT_STORE,
    address: HeadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a suite that somebody is running, until its driver ends. A signal ends only the watching.

    The exit code says how the suite stands, as that of `run` does. With `--address` it is what the
    driver prints there that is followed, and no store is needed.
    """
    if address is not None:
        follow_newest(address, suite)
    from rich.console import Console

    from orchestrator import progress
    from orchestrator.live import Now
    from results import standing
    from results.store import Store

    opened = Store.open(store.resolve())
    driver = _driver(opened, suite)
    seen = {event.detail["key"] for event, _ in _ended(opened, suite, set())}
    with progress.view(Console(stderr=True), quiet=as_json) as view:
        while driver is not None and driver.alive():
            for event, row in _ended(opened, suite, seen):
                seen.add(event.detail["key"])
                _print(row) if as_json else view.event(event, SimpleNamespace(**row))
            now = Now.of(driver.told)
            if now is not None:
                _print(asdict(now)) if as_json else view.update(now)
            time.sleep(POLL_SECONDS)
            driver = _driver(opened, suite)
    counts = standing.of_suites(opened)[suite]
    if as_json:
        _print({"suite": suite, "runs": counts.total(), **counts})
    else:
        said = ", ".join(f"{n} {status}" for status, n in counts.items())
        echo(f"{suite}: no driver has it now. {counts.total()} runs: {said}")
    sys.exit(exit_code(counts))


@app.command()
def stop(
    suite: SuiteOfStore,
    store: StoreOption = DEFAULT_STORE,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for the runs to reach their next step.")
    ] = False,
    run: Annotated[
        str | None, typer.Option("--run", help="Stop this run alone; the suite goes on.")
    ] = None,
    address: HeadOption = None,
) -> None:
    """Ask the driver of a suite, wherever it is, to end: its runs write checkpoints and stay unfinished.

    `run` and `resume` go on with them later.
    """
    if address is not None:
        single = () if run is None else ("--run", run)
        relay(address, "stop", suite, "--now" if now else None, *single, store=store)
    from orchestrator.cli.look import one_run
    from results.lease import STOP, STOP_NOW, STOP_RUN
    from results.store import Store

    opened = Store.open(store.resolve())
    driver = _driver(opened, suite)
    if driver is None or not driver.alive():
        fail(f"{suite}: nothing to stop, no driver of {store} has it", ExitCode.USAGE)
    if run is not None:
        run_id = one_run(opened, run)
        driver.ask(f"{STOP_RUN}{run_id}")
        echo(f"{suite}: its driver was asked to stop {run_id}")
        return
    driver.ask(STOP_NOW if now else STOP)
    echo(f"{suite}: asked {_who(driver)} to stop")
    while driver.alive():
        time.sleep(POLL_SECONDS / 5)
    echo(f"{suite}: its driver has ended; `peftgrid run {suite}` goes on")


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run_id, or enough of its beginning.")],
    store: StoreOption = DEFAULT_STORE,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="This one; by default all of them.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is in no job's hands.")
    ] = False,
    address: HeadOption = None,
) -> None:
    """What the attempts at a run wrote: their epochs, what they noted, how they ended."""
    if address is not None:
        one = () if attempt is None else ("--attempt", str(attempt))
        relay(address, "logs", run, "-f" if follow else None, *one, store=store)
    from orchestrator.cli.look import one_run
    from results.store import Store

    opened = Store.open(store.resolve())
    run_id, told = one_run(opened, run), list[str]()
    while True:
        open_claim = opened.open_claims().get(run_id)
        lines = _log_lines(opened, run_id, attempt, open_claim)
        for line in lines[len(told) :]:
            echo(line)
        told = lines
        if not follow or open_claim is None:
            break
        time.sleep(POLL_SECONDS)
    if not told:
        which = "attempt" if attempt is None else f"attempt {attempt}"
        fail(f"{run_id}: no {which} in {store}", ExitCode.USAGE)


def _driver(store: Store, suite: str) -> Observer | None:
    """Who took the suite last; exit 2 where the store has no such suite."""
    from results import lease

    found = lease.newest(store, suite)
    if found is None and suite not in store.plans():
        known = ", ".join(store.plans()) or "none"
        fail(f"no suite {suite!r} in {store.path}; known: {known}", ExitCode.USAGE)
    return found


def _who(driver: Observer) -> str:
    owner = driver.owner
    return f"process {owner.get('pid')} on {owner.get('hostname')}"


def _ended(
    store: Store, suite: str, seen: set[tuple[str, int]]
) -> Iterator[tuple[Event, dict[str, Any]]]:
    """The attempts at runs of the suite that ended and were not seen, as a driver tells of them."""
    from orchestrator.dispatch import Event

    mine = {row.run_id for row in store.plan(suite)}
    for row in store.attempts(_SHOWN).to_pylist():
        key = (row["run_id"], row["attempt"])
        if key not in seen and row["run_id"] in mine:
            detail = {"key": key, **row}
            ended = row["ended_at"].timestamp()
            yield (
                Event("finished", row["job"] or "", row["run_id"], ended, row["status"], detail),
                row,
            )


def _log_lines(
    store: Store, run_id: str, attempt: int | None, claim: dict[str, Any] | None
) -> list[str]:
    """The log of every attempt, or of one."""
    from orchestrator.ledger import log_path

    def written(number: int) -> list[str]:
        path = log_path(store, run_id, number)
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        return [f"  {line}" for line in text.splitlines()]

    lines = []
    mine = [row for row in store.attempts().to_pylist() if row["run_id"] == run_id]
    for row in sorted(mine, key=lambda row: row["attempt"]):
        number = row["attempt"]
        if attempt in (None, number):
            lines.append(f"attempt {number}: {row['job']} on {row['hostname'] or 'the driver'}")
            lines += written(number) or _curve(store, run_id, number)
            lines.append(f"  {row['status']}" + (f": {row['error']}" if row["error"] else ""))
    if claim is not None and attempt in (None, claim["attempt"]):
        lines.append(f"attempt {claim['attempt']}: {claim.get('job')} on {claim.get('hostname')}")
        lines += written(claim["attempt"])
    return lines


def _curve(store: Store, run_id: str, attempt: int) -> list[str]:
    """What a run wrote that succeeded, from its rows: its log is not kept."""
    rows = store.epochs().to_pylist()
    return [
        f"  epoch {row['epoch']} {row['split']}: loss {row['loss']:.4f}, top1 {row['top1']:.4f}, "
        f"{row['images_per_second']:.0f} images/s"
        for row in rows
        if (row["run_id"], row["attempt"]) == (run_id, attempt)
    ]


def _print(value: dict[str, Any]) -> None:
    """One line of JSON, at once."""
    echo(json.dumps(value, default=str))
    sys.stdout.flush()
