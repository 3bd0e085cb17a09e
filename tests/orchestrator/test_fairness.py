"""What a plan says of tuning budgets, preprocessing and parameters, and what a suite may ask of them."""

import dataclasses
import json

import pytest

from orchestrator import fairness
from orchestrator.driver import save
from orchestrator.plan import make_plan
from results.store import Store
from suites.load import SuiteError, loads

SUITE = """
schema: 1
suite: fair
backbone: vit_tiny_fashion
methods: [linear, {name: lora, rank: 2}]
datasets: [mnist, digits]
protocol:
  tune: {grid: {lr: [1e-3, 1e-2]}, seeds: [5, 6]}
  fairness: {TERMS}
"""
UNEQUAL = "overrides: [{when: {method: linear, dataset: digits}, train: {lr: [0.1, 0.2, 0.3]}}]"


def suite(terms="", more=""):
    return loads(SUITE.replace("TERMS", terms) + more)


def problem(terms, more=""):
    with pytest.raises(SuiteError) as caught:
        suite(terms, more)
    (found,) = caught.value.problems
    return found


def test_equal_tuning_runs_are_accepted():
    assert suite("tuning_runs: equal").protocol.fairness.tuning_runs == "equal"


def test_unequal_tuning_runs_are_refused_with_the_place_and_the_numbers():
    found = problem("tuning_runs: equal", UNEQUAL)
    assert (found.line, found.path) == (9, "protocol.fairness")
    assert "on digits they are: linear 6, lora[rank=2] 4; allowed: one number" in found.message


@pytest.mark.parametrize("terms", ["", "tuning_runs: any"])
def test_unequal_tuning_runs_are_accepted_where_nothing_is_asked(terms):
    assert len(suite(terms, UNEQUAL).groups()) == 4


def test_a_candidate_over_the_budget_is_refused_where_it_is_named():
    count = {s.variant: s.adapter_params[1] for s in shares(suite())}["lora[rank=2]"]
    assert suite(f"max_adapter_params: {count}").groups()
    found = problem(f"max_adapter_params: {count - 1}")
    assert (found.line, found.path) == (5, "methods[1]")
    assert f"lora[rank=2] has {count:,} trainable parameters" in found.message
    assert f"allowed: {count - 1:,}" in found.message


def test_a_budget_of_nothing_is_refused():
    found = problem("max_adapter_params: 0")
    assert found.path == "protocol.fairness.max_adapter_params"
    assert found.message.startswith("0 given, allowed: ")


def shares(suite):
    return fairness.of_plan(make_plan(suite, None)).shares


def test_a_share_has_the_tuning_runs_of_a_variant():
    found = {s.variant: s for s in shares(suite("", UNEQUAL))}
    assert [(s.tuning_planned, s.tuning_spent, s.selections) for s in found.values()] == [
        (10, 0, 2),
        (8, 0, 2),
    ]
    assert found["linear"].adapter_params == (0, 0)


def test_runs_that_see_other_images_are_noticed():
    plan = make_plan(suite(), None)
    assert fairness.of_plan(plan).same_preprocessing
    run = plan.runs[0]
    seedless = {**run.cell.spec.seedless, "preprocessing": {"size": 1}}
    spec = dataclasses.replace(run.cell.spec, seedless=seedless)
    other = dataclasses.replace(run, cell=dataclasses.replace(run.cell, spec=spec))
    changed = dataclasses.replace(plan, runs=(other, *plan.runs[1:]))
    assert not fairness._same_images(changed)


def test_plan_prints_the_report(peftgrid, tmp_path):
    (tmp_path / "fair.yaml").write_text(SUITE.replace("TERMS", "") + UNEQUAL)
    code, out, err = peftgrid("plan", "fair.yaml")
    assert code == 0, err
    assert "tuning: 4 to 5 runs of each variant on each data set; 0 of 18 have ended" in out
    assert "preprocessing: the same for all methods" in out
    assert "trained without the head: 0 to " in out
    code, out, _ = peftgrid("plan", "fair.yaml", "--json")
    said = json.loads(out)["fairness"]
    assert [share["tuning_planned"] for share in said["shares"]] == [10, 8]
    assert said["same_preprocessing"] is True


def test_plan_and_table_show_a_label_beside_the_variant(peftgrid, tmp_path):
    labelled = SUITE.replace("TERMS", "").replace("rank: 2}", "rank: 2, label: small}")
    text = labelled.partition("protocol:")[0]
    (tmp_path / "fair.yaml").write_text(text)
    _, out, _ = peftgrid("plan", "fair.yaml")
    assert "lora[rank=2] (small)" in out
    suite, store = loads(text), Store.open(tmp_path / "runs", create=True)
    save(suite, store, make_plan(suite, store))
    _, out, err = peftgrid("table", "fair")
    assert "lora[rank=2] (small)" in out, err
