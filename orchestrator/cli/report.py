"""What people read of a suite: `report`, a file that stands alone, and `serve`, the same while it runs."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.app import (
    DEFAULT_METRIC,
    DEFAULT_STORE,
    ExitCode,
    JsonOption,
    MetricOption,
    StoreOption,
    app,
    echo,
    echo_json,
    fail,
)


class ReportFormat(enum.StrEnum):
    """What `report` writes."""

    html = "html"
    markdown = "markdown"
    latex = "latex"


@app.command()
def report(
    suite: Annotated[str, typer.Argument(help="A suite's name.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, e.g. `report.html`.")],
    form: Annotated[
        ReportFormat,
        typer.Option(
            "--format",
            help="`html`: one page that works offline, with every run. `markdown`, `latex`: shorter.",
        ),
    ] = ReportFormat.html,
    metric: MetricOption = DEFAULT_METRIC,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a suite's question, state, leaderboard, runs and provenance as one file.

    For example: peftgrid report quickstart --out report.html
    """
    from orchestrator.provenance import of_table
    from results.report import data, page, text
    from results.store import Store

    path = store.resolve()
    opened = Store.open(path)
    read = data.read(opened, suite, metric=metric, provenance=of_table(path))
    match form:
        case ReportFormat.html:
            written = page.html(read)
        case ReportFormat.markdown:
            written = text.markdown(read)
        case ReportFormat.latex:
            written = text.latex(read)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(written, encoding="utf-8", newline="\n")
    except OSError as error:
        fail(f"--out: {out} cannot be written ({error.strerror})", ExitCode.USAGE)
    for file, reason in opened.bad_files:
        typer.echo(f"peftgrid: set aside {file}: {reason}", err=True)
    size = out.stat().st_size
    if as_json:
        echo_json({"out": str(out), "bytes": size, "runs": read.planned, **read.counts})
        return
    counted = ", ".join(f"{n} {status}" for status, n in sorted(read.counts.items()))
    echo(f"{out}: {read.planned} runs of {suite} ({counted}), {size / 1e6:.2f} MB")


@app.command()
def serve(
    suite: Annotated[str | None, typer.Argument(help="A suite's name; by default all.")] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to bind; others than loopback are reachable.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 0,
    metric: MetricOption = DEFAULT_METRIC,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show the report in a browser while the suite runs; reads only, until Ctrl-C.

    For example: peftgrid serve quickstart
    """
    from orchestrator import server
    from orchestrator.provenance import of_table

    path = store.resolve()
    source = server.open_source(path, suite, metric, of_table(path))
    if host not in ("127.0.0.1", "::1", "localhost"):
        typer.echo(f"peftgrid: whoever reaches {host} can read this store", err=True)
    try:
        server.serve(source, host, port, lambda url: echo(f"{url} (Ctrl-C ends it)"))
    except OSError as error:
        fail(f"--host, --port: {host}:{port} cannot be bound ({error.strerror})", ExitCode.USAGE)
    echo("ended")
