import itertools
import json

import pytest

from results.record import Attempt, PlanRow
from results.store import Store

DIGEST = "0123456789abcdef"


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
    positions = itertools.count()

    def make(run_id, variant, dataset, seed, *, suite="demo", lr=0.001, **fields):
        science = {"dataset": {"name": dataset}, "seed": seed, "train": {"lr": lr, "epochs": 2}}
        science["method"] = {"name": variant.partition("[")[0]}
        defaults = {
            "suite_digest": DIGEST,
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


@pytest.fixture
def fill(store, attempt, cell):
    """Plan and commit blocks of (variant, dataset, score or None per seed, settings)."""

    def build(*blocks, suite="demo", **common):
        rows = []
        for variant, dataset, scores, fields in blocks:
            fields = common | fields
            planned = {
                key: fields[key]
                for key in ("lr", "stage", "backbone", "trainable_params", "spec", "config_id")
                if key in fields
            }
            done = {k: v for k, v in fields.items() if k not in ("lr", "stage", "spec")}
            for seed, score in enumerate(scores):
                run_id = f"{suite}-{len(rows)}"
                rows.append(cell(run_id, variant, dataset, seed, suite=suite, **planned))
                if score is not None:
                    metrics = {"test/top1": score, "test/nll": 1 - score}
                    done |= {"dataset": dataset, "variant": variant, "metrics": metrics}
                    store.commit(attempt(run_id, seed=seed, **done))
        store.save_plan(suite, DIGEST, "text", rows)
        return rows

    return build


@pytest.fixture
def worked(fill):
    """Three data sets in two groups, two variants, three seeds: small enough to work out by hand."""
    natural, structured = {"dataset_group": "natural"}, {"dataset_group": "structured"}
    return fill(
        ("bitfit", "mnist", [0.6, 0.6, 0.6], natural),
        ("bitfit", "digits", [0.8, 0.7, 0.6], natural),
        ("bitfit", "shapes", [0.1, 0.2, 0.3], structured),
        ("lora[rank=8]", "mnist", [0.9, 0.8, 0.7], natural),
        ("lora[rank=8]", "digits", [0.6, 0.6, 0.6], natural),
        ("lora[rank=8]", "shapes", [0.5, 0.4, 0.3], structured),
    )
