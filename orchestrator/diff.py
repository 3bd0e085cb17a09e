"""What an edited suite changes: the plan now against the latest plan that the store has of the suite.

A cell is the same while its run is. Of the others, those with the same values on the axes that both plans
have are one cell whose recipe changed; a changed recipe is another run and starts from the start.
A final cell is known by what its selection is made for, so another winner is a changed cell too.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.plan import Plan, PlannedRun
from results.record import PlanRow
from suites.suite import Suite

ABSENT = "absent"
"""Stands for a setting that one of two runs does not have."""
T = TypeVar("T")


@dataclass(frozen=True)
class FieldChange:
    """A setting of a run's science that differs, with its values as JSON has them."""

    name: str
    """As in `train.epochs`."""
    old: Any
    new: Any


@dataclass(frozen=True)
class ChangedCell:
    """A cell that asks for another run than before."""

    old: PlanRow
    new: PlannedRun
    fields: tuple[FieldChange, ...]
    """By name."""
    reselected: bool
    """Whether it is a final cell with another winner."""


@dataclass(frozen=True)
class Diff:
    """A suite against its latest stored plan."""

    stored_digest: str | None
    """Of the suite as it was planned; None where the store has no plan of it."""
    new: tuple[PlannedRun, ...]
    removed: tuple[PlanRow, ...]
    """Cells that the suite no longer has. What they left in the store stays."""
    reopened: tuple[PlanRow, ...]
    """Final cells that had a winner and wait for their selection again."""
    changed: tuple[ChangedCell, ...]
    unchanged: int
    waiting: int
    """Final cells whose selection is still to be made."""


def compare(suite: Suite, plan: Plan, stored: Sequence[PlanRow]) -> Diff:
    """`plan` is that of `suite`; `stored` its latest plan, empty where there is none."""
    then = {row.run_id: row for row in stored if row.run_id is not None}
    now = {run.cell.spec.run_id: run for run in plan.runs}
    gone = [row for run_id, row in then.items() if run_id not in now]
    fresh = [run for run_id, run in now.items() if run_id not in then]
    per = suite.protocol.select.per if suite.protocol else ()
    axes = _axes(row.axes for row in then.values()) & _axes(run.cell.axes for run in plan.runs)
    old_cells = _alone((_old_key(row, per, axes), row) for row in gone)
    new_cells = _alone((_new_key(run, per, axes), run) for run in fresh)
    changed = tuple(
        _changed(old_cells[key], run) for key, run in new_cells.items() if key in old_cells
    )
    replaced = {cell.old.run_id for cell in changed}
    open_ = {tuple(item.group.key[name] for name in per) for item in plan.waiting}
    reopened = [row for row in gone if row.stage == "final" and _group(row, per) in open_]
    replacing = {cell.new.cell.spec.run_id for cell in changed}
    stays = replaced | {row.run_id for row in reopened}
    return Diff(
        stored_digest=stored[0].suite_digest if stored else None,
        new=tuple(run for run in fresh if run.cell.spec.run_id not in replacing),
        removed=tuple(row for row in gone if row.run_id not in stays),
        reopened=tuple(reopened),
        changed=changed,
        unchanged=len(now) - len(fresh),
        waiting=sum(item.group.final_count for item in plan.waiting),
    )


def field_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The settings that differ between the sciences of two runs, by name."""
    before, after = _flat(old), _flat(new)
    return tuple(
        FieldChange(name, before.get(name, ABSENT), after.get(name, ABSENT))
        for name in sorted(before.keys() | after.keys())
        if before.get(name, ABSENT) != after.get(name, ABSENT)
    )


def _changed(old: PlanRow, new: PlannedRun) -> ChangedCell:
    cell = new.cell
    before: Mapping[str, Any] = json.loads(old.spec or "{}")
    return ChangedCell(
        old=old,
        new=new,
        fields=field_changes(before, cell.spec.science),
        reselected=cell.stage == "final" and dict(old.axes) != cell.axes,
    )


def _axes(cells: Iterable[Mapping[str, str]]) -> set[str]:
    """The axes that any of the cells has a value on."""
    return {axis for axes in cells for axis in axes}


def _old_key(row: PlanRow, per: Sequence[str], axes: set[str]) -> Hashable:
    if row.stage == "final" and per:
        return row.stage, row.seed, _group(row, per)
    return row.stage, _on(axes, row.axes)


def _new_key(run: PlannedRun, per: Sequence[str], axes: set[str]) -> Hashable:
    cell = run.cell
    if cell.stage == "final":
        named = {**cell.axes, "variant": cell.spec.variant, "method": cell.spec.method}
        return cell.stage, cell.spec.seed, tuple(named[name] for name in per)
    return cell.stage, _on(axes, cell.axes)


def _group(row: PlanRow, per: Sequence[str]) -> tuple[str | None, ...]:
    """What a final cell of a stored plan was selected for."""
    named = {**row.axes, "variant": row.variant, "method": row.method}
    return tuple(named.get(name) for name in per)


def _on(axes: set[str], values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((axis, value) for axis, value in values.items() if axis in axes))


def _alone(keyed: Iterable[tuple[Hashable, T]]) -> dict[Hashable, T]:
    """The entries whose key no other has: of several it could not be said which became which."""
    found: dict[Hashable, list[T]] = {}
    for key, value in keyed:
        found.setdefault(key, []).append(value)
    return {key: values[0] for key, values in found.items() if len(values) == 1}


def _flat(science: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in science.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
