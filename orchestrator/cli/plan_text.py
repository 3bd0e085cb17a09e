"""A plan as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from orchestrator.cli.app import echo, echo_json

if TYPE_CHECKING:
    from orchestrator.expected import Expected
    from orchestrator.plan import Plan
    from suites.suite import Cell, Suite


_LINES, _FIRST = 200, 10
"""A longer list is cut off; an axis with more values shows so many of them."""


def print_plan(
    suite: Suite, planned: Plan, as_json: bool, expected: Expected | None = None
) -> None:
    """Print counts, axes, trainable parameters, what each method gets, what waits and what is missing."""
    if as_json:
        echo_json(_plan_json(suite, planned, expected))
        return
    from orchestrator import fairness

    echo(f"suite {suite.name}: {counted(planned.counts())}")
    for axis, values in _axes(planned).items():
        echo(f"  {axis}: {_shortened(values)}")
    counts = {
        _named(run.cell): counted_params(run.trainable_params, run.count_is_exact)
        for run in planned.runs
    }
    several = len({run.cell.spec.dataset for run in planned.runs}) > 1
    echo("  trainable parameters" + (", head of the last data set included:" if several else ":"))
    for variant, count in list(counts.items())[:_LINES]:
        echo(f"    {variant:<40} {count:>12}")
    if len(counts) > _LINES:
        echo(f"    and {len(counts) - _LINES} more variants: see --json")
    fair = fairness.of_plan(planned)
    if fair is not None:
        echo("  fairness:")
        for line in fair.lines():
            echo(f"    {line}")
    for item in planned.waiting[:_LINES]:
        where = ", ".join(str(value) for value in item.group.key.values())
        echo(f"  waiting: {item.group.final_count} final runs of {where}: {item.reason}")
    if len(planned.waiting) > _LINES:
        echo(f"  waiting: the final runs of {len(planned.waiting) - _LINES} more: see --json")
    for what, command in planned.absent.items():
        echo(f"  missing: {what}; get it with: {command}")
    if expected is not None:
        echo(f"  expected: {expected_words(expected)}")


def expected_words(expected: Expected) -> str:
    """How long a suite will take, and how much of that is starting up."""
    if expected.refused is not None:
        return f"nothing, these jobs do not fit here: {expected.refused}"
    if expected.runs == 0:
        return "nothing to run"
    if expected.seconds is None:
        return f"no run like these {expected.runs} was ever done here, so nobody knows how long"
    jobs = "1 job" if expected.jobs == 1 else f"{expected.jobs} jobs at a time"
    text = (
        f"{duration(expected.seconds)} with {jobs}, {duration(expected.start_seconds)} of it until "
        f"the first run begins; all jobs together start for {duration(expected.job_start_seconds)}"
    )
    if expected.unknown:
        text += (
            f"; {expected.unknown} of {expected.runs} runs have no history and count as the median "
            "of the others"
        )
    return text


def duration(seconds: float) -> str:
    """`48 s`, `12 min 30 s`, `3 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _plan_json(suite: Suite, planned: Plan, expected: Expected | None) -> dict[str, Any]:
    from orchestrator import fairness

    fair = fairness.of_plan(planned)
    runs = [
        {
            "run_id": run.cell.spec.run_id,
            "config_id": run.cell.spec.config_id,
            "variant": run.cell.spec.variant,
            "backbone": run.cell.spec.backbone,
            "method": run.cell.spec.method,
            "params": dict(run.cell.spec.params),
            "dataset": run.cell.spec.dataset,
            "seed": run.cell.spec.seed,
            "stage": run.cell.stage,
            "selected_from": run.cell.selected_from,
            "axes": dict(run.cell.axes),
            "status": run.status,
            "reason": run.reason,
            "trainable_params": run.trainable_params,
            "count_is_exact": run.count_is_exact,
        }
        for run in planned.runs
    ]
    waiting = [
        {
            "run_id": None,
            **dict(item.group.key),
            "stage": "final",
            "status": "waiting",
            "runs": item.group.final_count,
            "reason": item.reason,
        }
        for item in planned.waiting
    ]
    return {
        "suite": suite.name,
        "digest": suite.digest,
        "counts": planned.counts(),
        "absent": planned.absent,
        "fairness": None if fair is None else dataclasses.asdict(fair),
        "expected": None if expected is None else dataclasses.asdict(expected),
        "runs": runs,
        "waiting": waiting,
    }


def _named(cell: Cell) -> str:
    """The variant, with the suite's own name for it where there is one."""
    label = cell.axes.get("label")
    return f"{cell.spec.variant} ({label})" if label else cell.spec.variant


def _axes(planned: Plan) -> dict[str, list[str]]:
    """Axis -> its values in order of appearance."""
    axes: dict[str, dict[str, None]] = {}
    for run in planned.runs:
        for axis, value in run.cell.axes.items():
            axes.setdefault(axis, {})[value] = None
    return {axis: list(values) for axis, values in axes.items()}


def _shortened(values: list[str]) -> str:
    """The values of an axis: of very many the first ones, the last one and their number."""
    if len(values) <= _LINES:
        return ", ".join(values)
    return f"{', '.join(values[:_FIRST])}, ..., {values[-1]} ({len(values)} values)"


def counted_params(count: int, is_exact: bool) -> str:
    """A number of parameters: `42,432`, or `<= 127,296` where it is an upper bound."""
    return f"{count:,}" if is_exact else f"<= {count:,}"


def counted(counts: dict[str, int]) -> str:
    """Counts by status in words: `24 runs: 20 succeeded, 4 queued`."""
    return f"{sum(counts.values())} runs: " + ", ".join(f"{n} {s}" for s, n in counts.items())
