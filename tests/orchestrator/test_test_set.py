"""No rule but the oracle, by name, ever picks by the test set: here it contradicts validation."""

import dataclasses

import pytest
import torch

from adapters import registry
from adapters.data import shapes_location
from adapters.spec import TrainConfig, TrialSpec
from adapters.trial import run_trial
from adapters.warm import Warm
from orchestrator import plan
from orchestrator.driver import save
from orchestrator.plan import make_plan
from orchestrator.rows import attempt
from results.store import Store
from results.table import leaderboard
from suites.load import SuiteError, loads

EPOCHS = 3
TOP1 = {"top1": lambda logits, labels: float((logits.argmax(1) == labels).mean())}
TUNED = """
schema: 1
suite: tuned
backbone: vit_tiny_fashion
methods: [linear]
datasets: [mnist]
seeds: 2
protocol: {tune: {grid: {lr: [1e-3, 1e-2, 1e-1]}, seeds: 2}, select: {rule: RULE}}
"""
VAL = {1e-3: 0.5, 1e-2: 0.9, 1e-1: 0.7}
"""What a learning rate gives on validation; on the test set it gives the rest to 1."""


class Recorder:
    """An observer that keeps the rows."""

    def __init__(self):
        self.rows = []

    def step(self, epoch, step, steps):
        pass

    def epoch(self, row):
        self.rows.append(row)


def run(rule):
    config = registry.dataset("shapes_location").Config(train=96, val=48, test=48)
    trial = TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=config,
        method="full",
        method_config=registry.method("full").Config(),
        train=TrainConfig(epochs=EPOCHS, batch_size=12, lr=1e-3, select_epoch=rule),
        seed=0,
    )
    recorder = Recorder()
    result = run_trial(trial, TOP1, warm=Warm(torch.device("cpu")), observer=recorder)
    return result, recorder.rows


@pytest.fixture
def contradict(monkeypatch):
    """Make every test label of `shapes_location` the class after the true one."""
    load = shapes_location.load

    def wrong(config):
        splits = load(config)
        labels = (splits.test.labels + 1) % splits.classes
        return dataclasses.replace(splits, test=dataclasses.replace(splits.test, labels=labels))

    monkeypatch.setattr(shapes_location, "load", wrong)


@pytest.mark.parametrize("rule", ["best_val", "last_epoch"])
def test_test_labels_change_nothing_but_the_test_scores(rule, request):
    true, true_rows = run(rule)
    request.getfixturevalue("contradict")
    wrong, wrong_rows = run(rule)
    assert true.scores["test/top1"] != wrong.scores["test/top1"]
    assert true.best_epoch == wrong.best_epoch

    def kept(rows):
        return [(r.epoch, r.split, r.loss, r.top1) for r in rows if r.split != "test"]

    assert kept(true_rows) == kept(wrong_rows)


@pytest.mark.usefixtures("contradict")
def test_the_epoch_of_best_validation_is_not_the_oracles():
    best, rows = run("best_val")
    oracle, oracle_rows = run("oracle_test")
    val = {row.epoch: row.top1 for row in rows if row.split == "val"}
    test = {row.epoch: row.top1 for row in oracle_rows if row.split == "test"}
    assert best.best_epoch in [epoch for epoch, top1 in val.items() if top1 == max(val.values())]
    assert oracle.best_epoch in [e for e, top1 in test.items() if top1 == max(test.values())]
    assert best.best_epoch != oracle.best_epoch
    assert oracle.scores["test/top1"] > best.scores["test/top1"]


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "runs", create=True)


def finish(store, spec):
    """A success of `spec` whose scores on the test set contradict those on validation."""
    val = VAL[spec.train["lr"]]
    metrics = {"val/top1": val, "test/top1": 1 - val}
    number = store.claim(spec.run_id, {})
    store.commit(attempt(spec, number=number, started_at=None, status="succeeded", metrics=metrics))


@pytest.mark.parametrize("rule", ["best_val", "last_epoch"])
def test_a_winner_is_chosen_by_validation_even_where_test_scores_are_there(store, rule):
    suite = loads(TUNED.replace("RULE", rule))
    for cell in suite.cells():
        finish(store, cell.spec)
    chosen, waiting = plan.finals(suite, store)
    assert waiting == []
    assert [cell.spec.train["lr"] for cell in chosen] == [1e-2, 1e-2]
    assert {cell.spec.train["select_epoch"] for cell in chosen} == {rule}


def test_no_protocol_takes_the_oracle():
    with pytest.raises(SuiteError, match="oracle_test"):
        loads(TUNED.replace("RULE", "oracle_test"))


def test_a_table_shows_the_finals_alone_and_never_the_best_tune_cell(store):
    suite = loads(TUNED.replace("RULE", "best_val"))
    for cell in suite.cells():
        finish(store, cell.spec)
    planned = make_plan(suite, store)
    save(suite, store, planned)
    for one in planned.runs:
        if one.cell.stage == "final":
            finish(store, one.cell.spec)
    (row,) = leaderboard(store, "tuned").rows
    assert (row.mean, row.runs) == (pytest.approx(1 - VAL[1e-2]), 2)


def test_a_table_of_a_plain_grid_shows_every_configuration(store):
    suite = loads(
        "{schema: 1, suite: plain, backbone: vit_tiny_fashion, methods: [linear], datasets: [mnist],"
        " train: {lr: [1e-3, 1e-2, 1e-1]}}"
    )
    save(suite, store, make_plan(suite, store))
    for cell in suite.cells():
        finish(store, cell.spec)
    shown = {dict(row.settings)["lr"]: row.mean for row in leaderboard(store, "plain").rows}
    assert shown == {str(lr): pytest.approx(1 - val) for lr, val in VAL.items()}
