"""A plan as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.cli.app import echo, echo_json

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from suites.suite import Suite


def print_plan(suite: Suite, planned: Plan, as_json: bool) -> None:
    """Print counts, axes with their values, trainable parameters, what waits and what is missing."""
    if as_json:
        echo_json(_plan_json(suite, planned))
        return
    echo(f"suite {suite.name}: {counted(planned.counts())}")
    for axis, values in _axes(planned).items():
        echo(f"  {axis}: {', '.join(values)}")
    counts = {
        run.cell.spec.variant: counted_params(run.trainable_params, run.count_is_exact)
        for run in planned.runs
    }
    several = len({run.cell.spec.dataset for run in planned.runs}) > 1
    echo("  trainable parameters" + (", head of the last data set included:" if several else ":"))
    for variant, count in counts.items():
        echo(f"    {variant:<40} {count:>12}")
    for item in planned.waiting:
        where = ", ".join(str(value) for value in item.group.key.values())
        echo(f"  waiting: {item.group.final_count} final runs of {where}: {item.reason}")
    for what, command in planned.absent.items():
        echo(f"  missing: {what}; get it with: {command}")


def _plan_json(suite: Suite, planned: Plan) -> dict[str, Any]:
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
        "runs": runs,
        "waiting": waiting,
    }


def _axes(planned: Plan) -> dict[str, list[str]]:
    """Axis -> its values in order of appearance."""
    axes: dict[str, dict[str, None]] = {}
    for run in planned.runs:
        for axis, value in run.cell.axes.items():
            axes.setdefault(axis, {})[value] = None
    return {axis: list(values) for axis, values in axes.items()}


def counted_params(count: int, is_exact: bool) -> str:
    """A number of parameters: `42,432`, or `<= 127,296` where it is an upper bound."""
    return f"{count:,}" if is_exact else f"<= {count:,}"


def counted(counts: dict[str, int]) -> str:
    """Counts by status in words: `24 runs: 20 succeeded, 4 queued`."""
    return f"{sum(counts.values())} runs: " + ", ".join(f"{n} {s}" for s, n in counts.items())
