"""Suites on a cluster: submit, and how other commands are run there."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from adapters.plugins import VARIABLE as PLUGINS
from orchestrator.cli.app import ExitCode, SetOption, SuiteArgument, app, echo, fail
from results.bucket import BucketPath
from results.place import Place, place_of

if TYPE_CHECKING:
    from orchestrator.remote import Head, Submission

HEAD = re.compile(r"https?://")

HeadOption = Annotated[
    str | None,
    typer.Option("--address", help="Do it on the cluster whose head answers at http://HEAD:8265."),
]
ClusterStore = Annotated[
    str,
    typer.Option(
        "--store", help="Where the results go: a path that all nodes see, or s3://BUCKET/PREFIX."
    ),
]


@app.command()
def submit(
    suite: SuiteArgument,
    address: Annotated[
        str, typer.Option("--address", help="The cluster's head: http://HEAD:8265.")
    ],
    store: ClusterStore,
    overrides: SetOption = None,
    max_parallel: Annotated[
        int | None, typer.Option("--max-parallel", min=1, help="At most this many jobs at once.")
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option("--data-root", help="Where each node of the cluster has the data sets."),
    ] = None,
    plugins: Annotated[
        Path | None,
        typer.Option(
            "--plugins",
            exists=True,
            file_okay=False,
            help=f"A folder with methods/NAME.py, data/NAME.py of your own; else {PLUGINS}.",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Do not follow it: print its id and end.")
    ] = False,
) -> None:
    """Run a suite on a cluster, and follow it. A signal ends only the following.

    The same suite and store again: a live submission is followed, one that ended is continued.

    The exit code is that of the driver.
    """
    if plugins is not None:
        os.environ[PLUGINS] = str(plugins.resolve())
    words = ["run", *options(overrides, max_parallel)]
    start(address, suite, store, words, overrides, data_root, detach=detach)


def start(
    address: str,
    source: str,
    store: str,
    words: list[str],
    overrides: list[str] | None,
    data_root: str | None,
    *,
    detach: bool,
) -> NoReturn:
    """Submit `words`, a verb and its options, for a suite; follow it and end as its driver does."""
    from orchestrator import remote
    from orchestrator.parcel import SUITE_FILE
    from suites.load import load

    loaded = load(source, overrides or [])
    place = _on_cluster(store)
    head = _head(address)
    digest = remote.digest_of(loaded, place)
    name, attach = remote.next_id(loaded.name, digest, head.submissions())
    if attach:
        typer.echo(f"peftgrid: {name} is live, attached to it", err=True)
    else:
        verb, *rest = words
        head.submit(
            name,
            [verb, SUITE_FILE, "--store", place, "--address", "auto", *rest],
            suite=loaded,
            variables={"PEFTGRID_DATA": data_root} if data_root else None,
        )
        typer.echo(f"peftgrid: submitted as {name}", err=True)
    if detach:
        echo(name)
        sys.exit(ExitCode.DONE)
    sys.exit(_follow(head, name))


def options(overrides: list[str] | None, max_parallel: int | None) -> list[str]:
    """How `run` and `resume` are told these."""
    words = [word for value in overrides or [] for word in ("--set", value)]
    return words + ([] if max_parallel is None else ["--max-parallel", str(max_parallel)])


def relay(address: str, verb: str, *words: str | None, store: Place) -> NoReturn:
    """Run a command on the cluster, where its store is; print what it prints and end as it does."""
    given = [word for word in words if word is not None]
    head = _head(address)
    sys.exit(head.call([verb, *given, "--store", _on_cluster(str(store))], _write))


def output_of(address: str, *words: str) -> str:
    """What a command prints on the cluster; ends this process as it ended there where it failed."""
    said: list[str] = []
    code = _head(address).call(words, said.append)
    if code:
        fail(f"{address}: {''.join(said).strip()}", code)
    return "".join(said)


def follow_newest(address: str, suite: str) -> NoReturn:
    """Follow the live submission of a suite; exit 2 where there is none."""
    head = _head(address)
    mine = [each for each in head.submissions() if _is_of(each, suite)]
    live = [each.id for each in mine if each.is_live]
    if not live:
        ended = ", ".join(f"{each.id} {each.status.lower()}" for each in mine) or "none"
        fail(f"{suite}: nothing to watch at {address}; its submissions: {ended}", ExitCode.USAGE)
    sys.exit(_follow(head, live[-1]))


def _is_of(submission: Submission, suite: str) -> bool:
    return re.fullmatch(rf"{re.escape(suite)}-[0-9a-f]{{8}}-\d+", submission.id) is not None


def _follow(head: Head, name: str) -> int:
    try:
        return head.follow(name, _write)
    except KeyboardInterrupt:
        typer.echo(f"\npeftgrid: {name} goes on; the same command follows it again", err=True)
        return ExitCode.INTERRUPTED


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _head(address: str) -> Head:
    if not HEAD.match(address):
        fail(
            f"--address: {address!r} given, allowed: http://HEAD:8265, where the cluster's head "
            "takes jobs",
            ExitCode.USAGE,
        )
    import ray

    from orchestrator.remote import Head

    head = Head(address)
    there = head.ray_version()
    if there != ray.__version__:
        typer.echo(
            f"peftgrid: {address} has Ray {there}, this machine {ray.__version__}: what is submitted "
            "runs on the cluster's. `peftgrid doctor --address` compares the rest",
            err=True,
        )
    return head


def _on_cluster(store: str) -> str:
    """The store as its nodes name it."""
    is_path = os.path.isabs(store)  # noqa: PTH117 - it need not be one of this machine
    if not (is_path or isinstance(place_of(store), BucketPath)):
        fail(
            f"--store: {store!r} given, allowed with --address: an absolute path on the cluster, "
            "which all of its nodes see, or s3://BUCKET/PREFIX",
            ExitCode.USAGE,
        )
    return store
