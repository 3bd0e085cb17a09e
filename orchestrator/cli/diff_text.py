"""What an edited suite changes, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.cli.app import echo, echo_json

if TYPE_CHECKING:
    from orchestrator.diff import ChangedCell, Diff, FieldChange
    from orchestrator.plan import PlannedRun
    from results.record import PlanRow
    from suites.suite import Suite

_KEPT = "what they left in the store stays"


def print_diff(suite: Suite, diff: Diff, as_json: bool) -> None:
    """Print which cells are new, which left the suite, and which became other runs and why."""
    if as_json:
        echo_json(_diff_json(suite, diff))
        return
    if diff.stored_digest is None:
        echo(f"suite {suite.name}: the store has no plan of it, so every cell is new")
    else:
        echo(
            f"suite {suite.name} against its stored plan {diff.stored_digest[:8]}: "
            f"{len(diff.new)} new, {len(diff.removed)} removed, {len(diff.changed)} changed, "
            f"{diff.unchanged} unchanged"
        )
    _print_part("new ({})", [f"+ {_new_line(run)}" for run in diff.new])
    _print_part(f"removed ({{}}), {_KEPT}", [f"- {_old_line(row)}" for row in diff.removed])
    _print_changed(diff.changed)
    lines = [f"- {_old_line(row)}" for row in diff.reopened]
    _print_part(f"final runs whose selection is open again ({{}}), {_KEPT}", lines)
    if diff.waiting:
        echo(f"  {diff.waiting} final runs wait for their selection")


def _print_part(title: str, lines: list[str]) -> None:
    """The title with the number of lines, and the lines; nothing where there are none."""
    if lines:
        echo(f"  {title.format(len(lines))}:")
        for line in lines:
            echo(f"    {line}")


def _print_changed(changed: tuple[ChangedCell, ...]) -> None:
    """The changed cells, those with the same changes together."""
    grouped: dict[tuple[bool, str], list[ChangedCell]] = {}
    for cell in changed:
        fields = ", ".join(map(_field_text, cell.fields))
        grouped.setdefault((cell.reselected, fields), []).append(cell)
    for (reselected, fields), cells in grouped.items():
        echo(
            f"  {'another winner' if reselected else 'changed'} ({len(cells)}), "
            f"each a new run from the start: {fields}"
        )
        for cell in cells:
            echo(f"    ~ {cell.old.run_id} -> {_new_line(cell.new)}")


def _new_line(run: PlannedRun) -> str:
    spec = run.cell.spec
    return f"{spec.run_id} {_label(spec.variant, spec.dataset, spec.seed)}: {run.status}"


def _old_line(row: PlanRow) -> str:
    return f"{row.run_id} {_label(row.variant, row.dataset, row.seed)}"


def _label(variant: str | None, dataset: str | None, seed: int | None) -> str:
    return f"{variant} on {dataset}, seed {seed}"


def _field_text(change: FieldChange) -> str:
    from suites.spec import shown

    return f"{change.name} {shown(change.old)} -> {shown(change.new)}"


def _diff_json(suite: Suite, diff: Diff) -> dict[str, Any]:
    return {
        "suite": suite.name,
        "digest": suite.digest,
        "stored_digest": diff.stored_digest,
        "new": [_new_json(run) for run in diff.new],
        "removed": [_old_json(row) for row in diff.removed],
        "changed": [
            {
                "old": _old_json(cell.old),
                "new": _new_json(cell.new),
                "fields": {f.name: {"old": f.old, "new": f.new} for f in cell.fields},
                "reselected": cell.reselected,
            }
            for cell in diff.changed
        ],
        "reopened": [_old_json(row) for row in diff.reopened],
        "unchanged": diff.unchanged,
        "waiting": diff.waiting,
    }


def _new_json(run: PlannedRun) -> dict[str, Any]:
    cell = run.cell
    return {
        "run_id": cell.spec.run_id,
        "config_id": cell.spec.config_id,
        "stage": cell.stage,
        "selected_from": cell.selected_from,
        "axes": dict(cell.axes),
        "status": run.status,
    }


def _old_json(row: PlanRow) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "config_id": row.config_id,
        "stage": row.stage,
        "selected_from": row.selected_from,
        "axes": dict(row.axes),
    }
