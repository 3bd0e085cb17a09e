"""Suites of a given size and stores in which all their runs are done, for planning at scale."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from orchestrator import rows
from results import generations, schema
from results.record import to_table
from results.store import Store
from suites.load import loads
from suites.suite import Suite

CONFIGS = 1000
"""Of one learning rate: 50 variants of a method x two data sets x ten decays."""


def suite(runs: int, seeds: int) -> Suite:
    """A suite of so many runs: methods x data sets x decays x learning rates x seeds."""
    rates, left = divmod(runs, CONFIGS * seeds)
    assert rates > 0, "fewer runs than configurations"
    assert left == 0, "no whole number of learning rates"
    return loads(f"""
schema: 1
suite: large
backbone: vit_small14_focus
methods:
  - name: lora
    rank: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    targets: [[q], [k], [v], [q, v], [qkv]]
datasets: [mnist, fashion_mnist]
seeds: {seeds}
train:
  lr: {[round(1e-4 * (1 + n), 8) for n in range(rates)]}
  weight_decay: {[round(1e-4 * (1 + n), 8) for n in range(10)]}
""")


def finished(folder: Path, wanted: Suite) -> Store:
    """A compacted store that has one success of every run of a suite."""
    store = Store.open(folder, create=True)
    specs = sorted((cell.spec for cell in wanted.cells()), key=lambda spec: spec.run_id)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    attempts = to_table(
        (
            rows.attempt(spec, number=1, started_at=began, status="succeeded").to_row()
            for spec in specs
        ),
        schema.ATTEMPTS,
    )
    generations.write(store.path, 1, attempts, schema.arrow_schema(schema.EPOCHS).empty_table())
    return store
