"""Rows and schema say the same, and rows that cannot be true are refused."""

import dataclasses
from datetime import datetime

import pytest

from results import schema
from results.record import Attempt, Epoch, PlanRow


@pytest.mark.parametrize(
    ("record", "columns", "derived"),
    [
        (
            Attempt,
            schema.ATTEMPTS,
            {
                "train_top1",
                "val_top1",
                "test_top1",
                "test_nll",
                "test_ece",
                "trainable_percent",
                "epochs_file",
                "epochs_digest",
            },
        ),
        (Epoch, schema.EPOCHS, set()),
        (PlanRow, schema.PLANS, {"plan", "overrides"}),
    ],
)
def test_every_column_is_a_field_or_derived(record, columns, derived):
    names = [column.name for column in columns]
    assert len(names) == len(set(names))
    assert {field.name for field in dataclasses.fields(record)} == set(names) - derived


def test_every_column_says_what_it_means():
    for columns in schema.VIEWS.values():
        assert all(len(column.meaning) > 5 for column in columns)
    units = {c.name: c.unit for c in schema.ATTEMPTS if c.name.endswith(("_seconds", "_bytes"))}
    assert all(name.endswith("_" + unit) for name, unit in units.items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "done"}, "'done' given, allowed: succeeded, failed, stopped, pruned"),
        ({"status": "failed"}, "failure_kind: None given"),
        ({"status": "failed", "failure_kind": "oom"}, "allowed: launch, data"),
        ({"status": "succeeded", "failure_kind": "data"}, "allowed: None"),
        ({"status": "stopped", "started_at": datetime(2026, 1, 1)}, "with a time zone"),  # noqa: DTZ001
    ],
)
def test_impossible_attempts_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Attempt(run_id="run1", attempt=1, **fields)
