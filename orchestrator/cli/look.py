"""Commands that read a store: status, explain, table, query, schema. None of them loads torch or Ray."""

from __future__ import annotations

import enum
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import (
    DEFAULT_METRIC,
    DEFAULT_STORE,
    WIDTH,
    ExitCode,
    JsonOption,
    MetricOption,
    StoreOption,
    SuiteName,
    app,
    echo,
    echo_json,
    fail,
)
from orchestrator.cli.submit import HeadOption, relay

if TYPE_CHECKING:
    from results.schema import Column
    from results.store import Store


class TableFormat(enum.StrEnum):
    """How `table` prints."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


class QueryFormat(enum.StrEnum):
    """How `query` prints."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


@app.command()
def status(
    suite: SuiteName = None,
    store: StoreOption = DEFAULT_STORE,
    address: HeadOption = None,
    as_json: JsonOption = False,
) -> None:
    """How many runs of each suite succeeded, failed, stopped, are running or are still to do."""
    if address is not None:
        relay(address, "status", suite, "--json" if as_json else None, store=store)
    from results import standing
    from results.store import Store

    opened = Store.open(store.resolve())
    counted = standing.of_suites(opened)
    if suite is not None and suite not in counted:
        fail(f"no suite {suite!r} in {store}; known: {', '.join(opened.plans())}", ExitCode.USAGE)
    chosen = counted if suite is None else {suite: counted[suite]}
    rows = [{"suite": name, "runs": counts.total(), **counts} for name, counts in chosen.items()]
    if as_json:
        echo_json(rows)
        return
    for name, counts in chosen.items():
        said = ", ".join(f"{n} {status}" for status, n in counts.items())
        echo(f"{name}: {counts.total()} runs: {said}")
    for path, reason in opened.bad_files:
        typer.echo(f"peftgrid: set aside {path}: {reason}", err=True)


@app.command()
def explain(
    run: Annotated[str, typer.Argument(help="A run_id, or enough of its beginning.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Everything about one run: its spec, the suites that ask for it, every attempt and its error."""
    from results.store import Store

    opened = Store.open(store.resolve())
    run_id = one_run(opened, run)
    planned = [row for row in opened.plans_table().to_pylist() if row["run_id"] == run_id]
    attempts = [row for row in opened.attempts().to_pylist() if row["run_id"] == run_id]
    described = (planned or attempts)[0]
    attempts.sort(key=lambda row: row["attempt"])
    spec = json.loads(described["spec"])
    suites = sorted({row["suite"] for row in planned})
    decisions = opened.decisions()
    for row in attempts:
        row["decision"] = decisions.get((row["run_id"], row["attempt"]), {}).get("reason")
    if as_json:
        echo_json({"run_id": run_id, "suites": suites, "spec": spec, "attempts": attempts})
        return
    echo(
        f"run {run_id}: {described['variant']} on {described['dataset']}, seed {described['seed']}"
    )
    echo(f"asked for by: {', '.join(suites) or 'no suite of this store'}")
    for row in attempts:
        _explain_attempt(row)
    echo(_verdict(attempts))
    echo("spec (what the run_id is the hash of):")
    echo(json.dumps(spec, indent=2, sort_keys=True))


def one_run(store: Store, beginning: str) -> str:
    """The run_id, planned or attempted, that begins so; exit 2 where it is not one."""
    known = (store.plans_table(["run_id"]), store.attempts(["run_id"]))
    ids: set[str] = {
        run_id
        for table in known
        for run_id in table.column("run_id").to_pylist()
        if run_id and run_id.startswith(beginning)
    }
    if len(ids) != 1:
        found = f"{len(ids)} runs" if ids else "no run"
        named = " ".join(sorted(ids)[:10])
        fail(f"{found} in {store.path} begin with {beginning!r}: {named}", ExitCode.USAGE)
    return ids.pop()


def _explain_attempt(row: dict[str, Any]) -> None:
    echo(f"attempt {row['attempt']}: {row['status']} on {row['hostname'] or 'the driver'}")
    if row["status"] == "succeeded":
        scores = ", ".join(f"{name} {value:.4f}" for name, value in row["metrics"])
        echo(f"  epoch {row['best_epoch']} by {row['select_epoch']}: {scores}")
    if row["resumed_from_epoch"] is not None:
        echo(f"  went on from a checkpoint with {row['resumed_from_epoch']} whole epochs")
    if row["error"]:
        echo(f"  {row['failure_kind'] or row['status']}: {row['error']}")
    if row["decision"]:
        echo(f"  then: {row['decision']}")
    if row["evidence"]:
        echo("  " + row["evidence"].rstrip().replace("\n", "\n  "))


def _verdict(attempts: list[dict[str, Any]]) -> str:
    """What `run` and `resume` would do with it."""
    if not attempts:
        return "never attempted: `run` starts it"
    if any(row["status"] == "succeeded" for row in attempts):
        return "done: no command runs it again"
    if attempts[-1]["status"] == "failed":
        return "failed: `run` leaves it, `resume` tries it again"
    return f"{attempts[-1]['status']}: `run` and `resume` start it again"


@app.command()
def table(
    suite: SuiteName = None,
    store: StoreOption = DEFAULT_STORE,
    metric: MetricOption = DEFAULT_METRIC,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", help="Of text, Markdown and LaTeX: these alone, e.g. `mean,interval,wins`."
        ),
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Of text: all columns, also beyond 120 characters.")
    ] = False,
    form: Annotated[TableFormat, typer.Option("--format", help="How to print.")] = TableFormat.text,
) -> None:
    """The leaderboard: scores per variant and data set, their mean with interval and rank, and cost."""
    from orchestrator.provenance import of_table
    from results.store import Store
    from results.table import leaderboard

    path = store.resolve()
    board = leaderboard(Store.open(path), suite, metric=metric, provenance=of_table(path))
    chosen = None if columns is None else [name.strip() for name in columns.split(",")]
    match form:
        case TableFormat.text:
            echo(board.to_text(chosen, None if wide else WIDTH))
        case TableFormat.markdown:
            echo(board.to_markdown(chosen))
        case TableFormat.latex:
            echo(board.to_latex(chosen))
        case TableFormat.csv:
            echo(board.to_csv().removesuffix("\n"))
        case TableFormat.json:
            echo(board.to_json())


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(help="One SELECT over runs, attempts, epochs, plans and evaluations.")
    ],
    store: StoreOption = DEFAULT_STORE,
    form: Annotated[
        QueryFormat, typer.Option("--format", help="How to print.")
    ] = QueryFormat.table,
) -> None:
    """Query the result tables with SQL (DuckDB), read-only.

    For example: peftgrid query "SELECT variant, avg(test_top1) FROM runs GROUP BY ALL ORDER BY 2 DESC"
    """
    from orchestrator import provenance
    from results.formats import format_table
    from results.query import query as run_query
    from results.store import Store

    opened = Store.open(store.resolve())
    said = {"query": sql, **provenance.of_table(opened.path)}
    answer = run_query(opened, sql).replace_schema_metadata(
        {f"peftgrid.{name}": text for name, text in said.items()}
    )
    sys.stdout.buffer.write(format_table(answer, form.value))


@app.command()
def schema(as_json: JsonOption = False) -> None:
    """Every table and column with its type, unit and meaning."""
    from results import schema as tables

    if as_json:
        echo_json({name: [_column(c) for c in columns] for name, columns in tables.VIEWS.items()})
        return
    for name, columns in tables.VIEWS.items():
        echo(name)
        for column in columns:
            unit = f" [{column.unit}]" if column.unit else ""
            echo(f"  {column.name:<20} {column.type!s:<22} {column.meaning}{unit}")


def _column(column: Column) -> dict[str, str]:
    return {
        "column": column.name,
        "type": str(column.type),
        "meaning": column.meaning,
        "unit": column.unit,
    }
