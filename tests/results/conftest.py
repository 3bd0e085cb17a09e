import json

import pytest

from results.record import Attempt, PlanRow
from results.store import Store


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def attempt():
    """Make an `Attempt`: a success on mnist unless told otherwise."""

    def make(run_id="run1", n=1, **fields):
        defaults = {"status": "succeeded", "dataset": "mnist", "backbone": "vit"}
        return Attempt(run_id=run_id, attempt=n, **defaults | fields)

    return make


@pytest.fixture
def cell():
    """Make a `PlanRow` with a spec such as suites write."""
    positions = iter(range(1000))

    def make(run_id, variant, dataset, seed, *, suite="demo", lr=0.001, **fields):
        science = {"dataset": {"name": dataset}, "seed": seed, "train": {"lr": lr, "epochs": 2}}
        science["method"] = {"name": variant.partition("[")[0]}
        defaults = {
            "suite_digest": "0123456789abcdef",
            "stage": "single",
            "config_id": f"{variant}/{dataset}/{lr}",
            "backbone": "vit",
            "method": variant.partition("[")[0],
            "trainable_params": 100,
            "adapter_params": 90,
            "spec": json.dumps(science, sort_keys=True),
        }
        return PlanRow(
            suite=suite,
            position=next(positions),
            run_id=run_id,
            variant=variant,
            variant_id=variant,
            dataset=dataset,
            seed=seed,
            **defaults | fields,
        )

    return make
