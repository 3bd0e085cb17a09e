"""The commands that give the numbers of a report again."""

# ruff: noqa: S608 - texts to be read and typed; a suite, a metric and a run have checked names
from __future__ import annotations

import shlex

from results.report.data import Report

RUN_ID = "RUN_ID"
"""Stands for the run in the commands of `of_run`; a run_id needs no quoting."""


def of_suite(report: Report) -> list[tuple[str, str]]:
    """What each command gives, and the command."""
    name = report.suite
    changed = [f"--set {shlex.quote(text)}" for text in report.overrides]
    scored = (
        f"SELECT run_id, variant, dataset, seed, status, metrics['{report.metric}'] AS score "
        f"FROM runs WHERE run_id IN (SELECT run_id FROM plans WHERE suite = '{name}')"
    )
    spread = (
        f"SELECT backbone, variant, config_id, dataset, avg(metrics['{report.metric}']) AS mean, "
        f"stddev_samp(metrics['{report.metric}']) AS std, count(*) AS n FROM runs "
        f"WHERE status = 'succeeded' AND run_id IN (SELECT run_id FROM plans "
        f"WHERE suite = '{name}' AND stage IN ('single', 'final')) GROUP BY ALL ORDER BY ALL"
    )
    store = _store(report)
    return [
        ("the state of the plan", f"peftgrid status {name}{store}"),
        ("the leaderboard", f"peftgrid table {name} --metric {report.metric} --wide{store}"),
        ("its means per data set", f"peftgrid query {_quoted(spread)}{store}"),
        ("the score of every run", f"peftgrid query {_quoted(scored)}{store}"),
        (
            "the runs themselves, from the suite file shown here",
            " ".join([f"peftgrid run {name}.yaml", *changed]) + store,
        ),
        (
            "this report",
            f"peftgrid report {name} --metric {report.metric} --out report.html{store}",
        ),
    ]


def of_run(report: Report) -> list[tuple[str, str]]:
    """The same for one run, with RUN_ID for its identity."""
    store = _store(report)
    row = f"SELECT * FROM runs WHERE run_id = '{RUN_ID}'"
    curve = f"SELECT attempt, epoch, split, loss, top1 FROM epochs WHERE run_id = '{RUN_ID}' ORDER BY ALL"
    return [
        ("its spec, attempts and errors", f"peftgrid explain {RUN_ID}{store}"),
        ("its scores and costs", f"peftgrid query {_quoted(row)} --format json{store}"),
        ("its learning curve", f"peftgrid query {_quoted(curve)}{store}"),
        ("the run itself, with the rest of its suite", of_suite(report)[4][1]),
    ]


def _store(report: Report) -> str:
    """The option that names the store; none where it has the usual name."""
    name = report.provenance.get("store", "runs")
    return "" if name == "runs" else f" --store {shlex.quote(name)}"


def _quoted(sql: str) -> str:
    return f'"{sql}"'
