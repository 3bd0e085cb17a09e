"""Writes the sample store of the schema in force: `python tests/results/samples/make.py FOLDER`.

Run it before `SCHEMA_VERSION` is raised, with FOLDER tests/results/samples/schema-<version>; later
code is tested against what it left. It only uses what the store could do from the first version
on, but for generations of tables, which the first had not.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from results.record import Attempt, Epoch, PlanRow
from results.store import Store

BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def main(folder: Path) -> None:
    """Three runs: a success at the second attempt, a success, a failure; and one that is open."""
    store = Store.open(folder, create=True)
    _attempt(store, "a", "failed", 0.0, failure_kind="worker_lost", error="it was gone")
    _attempt(store, "a", "succeeded", 0.5)
    _attempt(store, "b", "succeeded", 0.75)
    if hasattr(store, "compact"):
        store.compact()
    _attempt(store, "c", "failed", 0.0, failure_kind="non_finite", error="loss is nan in epoch 2")
    store.claim("d", {"job": "job-1", "hostname": "host"})
    cells = [
        PlanRow(
            suite="sample",
            suite_digest="0123456789abcdef",
            position=n,
            stage="single",
            run_id=run_id,
            config_id="config",
            axes={"seed": str(n)},
            variant="lora[rank=4]",
            variant_id="variant",
            backbone="vit",
            method="lora",
            dataset="mnist",
            seed=n,
            spec=f'{{"seed":{n}}}',
            trainable_params=100,
            adapter_params=90,
        )
        for n, run_id in enumerate("abcd")
    ]
    store.save_plan("sample", "0123456789abcdef", "suite: sample\n", cells)


def _attempt(store: Store, run_id: str, status: str, top1: float, **fields: str) -> None:
    number = store.claim(run_id, {"job": "job-1", "hostname": "host"})
    attempt = Attempt(
        run_id=run_id,
        attempt=number,
        status=status,
        config_id="config",
        variant="lora[rank=4]",
        spec=f'{{"seed":{ord(run_id) - ord("a")}}}',
        semantics={"training": 1},
        backbone="vit",
        method="lora",
        rank="4",
        params={"rank": "4"},
        dataset="mnist",
        seed=ord(run_id) - ord("a"),
        metrics={"test/top1": top1, "test/nll": 1.5} if status == "succeeded" else {},
        best_epoch=2 if status == "succeeded" else None,
        trainable_params=100,
        total_params=400,
        epoch_seconds=1.25,
        cost_comparable=True,
        versions={"python": "3.12"},
        started_at=BEGAN,
        **fields,
    )
    curve = [
        Epoch(
            run_id=run_id,
            attempt=number,
            epoch=epoch,
            split="train",
            loss=1 / epoch,
            metrics={"nll": 1 / epoch},
        )
        for epoch in (1, 2)
    ]
    assert store.commit(attempt, curve)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
