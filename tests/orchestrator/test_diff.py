"""What an edited suite changes against its stored plan: new, removed and changed cells, and why."""

import contextlib
import json
import sys

import pytest

from orchestrator.cli import main
from orchestrator.diff import ABSENT, FieldChange, compare, field_changes
from orchestrator.driver import save
from orchestrator.plan import Wanted, make_plan
from orchestrator.rows import attempt
from results.store import Store

PROTOCOL = """
protocol:
  tune: {grid: {lr: [1e-3, 1e-2]}, seeds: [0]}
  final: {fit: train, score: test}
"""


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "runs", create=True)


def diff(suite, store):
    return compare(suite, make_plan(suite, store), store.plan(suite.name))


def keep(suite, store):
    """Store the suite's plan, as a driver does before it starts."""
    plan = make_plan(suite, store)
    save(suite, store, plan)
    return plan


def finish(plan, store, score):
    """End every run to do; `score` gives a run's validation accuracy from its spec."""
    for run in plan.to_do(Wanted()):
        spec = run.cell.spec
        number = store.claim(spec.run_id, {})
        metrics = {"val/top1": score(spec), "test/top1": 0.5}
        store.commit(
            attempt(spec, number=number, started_at=None, status="succeeded", metrics=metrics)
        )


def named(cells):
    return [(cell.cell.spec.method, cell.cell.spec.seed) for cell in cells]


def changes(cell):
    return {change.name: (change.old, change.new) for change in cell.fields}


def test_without_a_stored_plan_every_cell_is_new(make_suite, store):
    suite = make_suite("edited", seeds=2)
    found = compare(suite, make_plan(suite, None), [])
    assert found.stored_digest is None
    assert len(found.new) == 4
    assert (found.removed, found.changed, found.unchanged) == ((), (), 0)


def test_the_same_suite_changes_nothing(make_suite, store):
    suite = make_suite("edited", seeds=2)
    keep(suite, store)
    found = diff(suite, store)
    assert found.stored_digest == suite.digest
    assert (found.new, found.removed, found.changed, found.unchanged) == ((), (), (), 4)


def test_cells_that_are_added_are_new_and_the_others_stay(make_suite, store):
    keep(make_suite("edited", methods="[linear]", seeds=1), store)
    found = diff(make_suite("edited", methods="[linear, ia3]", seeds=2), store)
    assert named(found.new) == [("linear", 1), ("ia3", 0), ("ia3", 1)]
    assert (found.removed, found.changed, found.unchanged) == ((), (), 1)


def test_cells_that_left_the_suite_are_removed(make_suite, store):
    keep(make_suite("edited", methods="[linear, ia3]", seeds=2), store)
    found = diff(make_suite("edited", methods="[ia3]", seeds=1), store)
    assert [(row.method, row.seed) for row in found.removed] == [
        ("linear", 0),
        ("linear", 1),
        ("ia3", 1),
    ]
    assert (found.new, found.changed, found.unchanged) == ((), (), 1)


def test_another_rank_is_another_cell_and_no_changed_one(make_suite, store):
    keep(make_suite("edited", methods="[{name: lora, rank: 2}]"), store)
    found = diff(make_suite("edited", methods="[{name: lora, rank: 3}]"), store)
    assert (len(found.new), len(found.removed), found.changed) == (1, 1, ())


def test_a_changed_recipe_is_another_run_and_says_which_settings_differ(make_suite, store):
    before = make_suite("edited", methods="[linear]", train=", lr: 1e-2")
    keep(before, store)
    after = make_suite("edited", methods="[linear]", train=", lr: 1e-3, weight_decay: 0.5")
    (cell,) = diff(after, store).changed
    assert changes(cell) == {"train.lr": (0.01, 0.001), "train.weight_decay": (0.0001, 0.5)}
    assert cell.old.run_id == next(before.cells()).spec.run_id
    assert cell.new.cell.spec.run_id == next(after.cells()).spec.run_id
    assert not cell.reselected


def test_a_recipe_that_comes_to_vary_is_a_changed_cell(make_suite, store):
    """An override gives every cell the axis `train.lr`, which the stored cells do not have."""
    keep(make_suite("edited", methods="[linear, ia3]"), store)
    more = "overrides: [{when: {method: ia3}, train: {lr: 1}}]\n"
    found = diff(make_suite("edited", methods="[linear, ia3]", more=more), store)
    (cell,) = found.changed
    assert cell.new.cell.spec.method == "ia3"
    assert changes(cell) == {"train.lr": (0.01, 1.0)}
    assert (found.new, found.removed, found.unchanged) == ((), (), 1)


def test_one_cell_that_became_two_is_new_and_removed(make_suite, store):
    keep(make_suite("edited", methods="[linear]", train=", lr: 1e-2"), store)
    found = diff(make_suite("edited", methods="[linear]", train=", lr: [1e-3, 1e-4]"), store)
    assert (len(found.new), len(found.removed), found.changed) == (2, 1, ())


def test_a_value_more_on_an_axis_leaves_the_cells_that_were_there(make_suite, store):
    keep(make_suite("edited", methods="[linear]", train=", lr: 1e-2"), store)
    found = diff(make_suite("edited", methods="[linear]", train=", lr: [1e-2, 1e-4]"), store)
    assert (len(found.new), found.removed, found.changed, found.unchanged) == (1, (), (), 1)


def test_a_cell_that_the_store_already_has_is_new_to_the_suite_and_done(make_suite, store):
    finish(keep(make_suite("other", methods="[linear]"), store), store, lambda _: 0.5)
    keep(make_suite("edited", methods="[ia3]"), store)
    found = diff(make_suite("edited", methods="[ia3, linear]"), store)
    assert [run.status for run in found.new] == ["succeeded"]


def tuned(make_suite, more=PROTOCOL, train=""):
    return make_suite("tuned", methods="[linear]", seeds=2, train=train, more=more)


def lr(spec):
    return spec.train["lr"]


def test_finals_that_were_chosen_since_are_new(make_suite, store):
    suite = tuned(make_suite)
    finish(keep(suite, store), store, lr)
    found = diff(suite, store)
    assert [(run.cell.stage, run.cell.spec.seed) for run in found.new] == [
        ("final", 0),
        ("final", 1),
    ]
    assert (found.removed, found.changed, found.waiting) == ((), (), 0)


def test_another_winner_changes_the_finals(make_suite, store):
    suite = tuned(make_suite)
    finish(keep(suite, store), store, lr)
    finish(keep(suite, store), store, lr)  # the finals, of the larger rate
    wider = tuned(make_suite, PROTOCOL.replace("1e-2]", "1e-2, 1e-1]"))
    assert diff(wider, store).reopened, "until the new candidate has ended"
    finish(make_plan(wider, store), store, lr)  # one candidate more, and better
    found = diff(wider, store)
    assert [run.cell.stage for run in found.new] == ["tune"]
    assert [changes(cell) for cell in found.changed] == [{"train.lr": (0.01, 0.1)}] * 2
    assert all(cell.reselected for cell in found.changed)
    assert all(cell.old.selected_from != cell.new.cell.selected_from for cell in found.changed)
    assert (found.removed, found.reopened) == ((), ())


def test_finals_whose_selection_is_open_again_are_not_removed(make_suite, store):
    suite = tuned(make_suite)
    finish(keep(suite, store), store, lr)
    keep(suite, store)
    found = diff(tuned(make_suite, train=", weight_decay: 0.5"), store)
    assert [row.stage for row in found.reopened] == ["final", "final"]
    assert (len(found.changed), found.removed, found.waiting) == (2, (), 2)


def test_finals_of_the_same_winner_with_another_recipe_are_changed_and_not_reselected(
    make_suite, store
):
    suite = tuned(make_suite)
    finish(keep(suite, store), store, lr)
    keep(suite, store)
    heavier = tuned(make_suite, train=", weight_decay: 0.5")
    finish(make_plan(heavier, store), store, lr)
    found = diff(heavier, store)
    assert [cell.new.cell.stage for cell in found.changed] == ["tune", "tune", "final", "final"]
    assert [changes(cell) for cell in found.changed] == [{"train.weight_decay": (0.0001, 0.5)}] * 4
    assert not any(cell.reselected for cell in found.changed)


def test_finals_that_a_plain_suite_asks_for_too_stay(make_suite, store):
    suite = tuned(make_suite)
    finish(keep(suite, store), store, lr)
    keep(suite, store)
    found = diff(tuned(make_suite, more="", train=", lr: 1e-2"), store)
    assert [row.stage for row in found.removed] == ["tune", "tune"]
    assert (found.new, found.changed, found.reopened, found.unchanged) == ((), (), (), 2)


def test_settings_that_one_side_lacks_are_absent():
    old = {"train": {"epochs": 5, "lr": 1e-3}, "seed": 0, "method": {"params": {"rank": [1, 2]}}}
    new = {"train": {"epochs": 7, "ema": 0.9}, "seed": 0, "method": {"params": {"rank": [1, 3]}}}
    assert field_changes(old, new) == (
        FieldChange("method.params.rank", [1, 2], [1, 3]),
        FieldChange("train.ema", ABSENT, 0.9),
        FieldChange("train.epochs", 5, 7),
        FieldChange("train.lr", 1e-3, ABSENT),
    )


SUITE = """
schema: 1
suite: good
backbone: vit_tiny_fashion
methods: [linear, {name: lora, rank: 2}]
datasets: [digits]
seeds: 2
train: {epochs: 5}
"""


@pytest.fixture
def plan_diff(monkeypatch, capsys, tmp_path):
    """`peftgrid plan --diff` of a text in an empty folder: (standard output, the folder)."""
    monkeypatch.chdir(tmp_path)

    def run(text, *words):
        (tmp_path / "good.yaml").write_text(text)
        monkeypatch.setattr(sys, "argv", ["peftgrid", "plan", "good.yaml", "--diff", *words])
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def kept(store):
    from suites.load import loads

    keep(loads(SUITE), store)
    return loads(SUITE)


def test_the_command_says_that_nothing_is_stored_and_makes_no_store(plan_diff, tmp_path):
    out = plan_diff(SUITE)
    assert out.startswith(
        "suite good: the store has no plan of it, so every cell is new\n  new (4):\n"
    )
    assert not (tmp_path / "runs").exists()


def test_the_command_says_that_another_number_of_epochs_starts_anew(plan_diff, kept):
    out = plan_diff(SUITE.replace("epochs: 5", "epochs: 7"))
    assert f"stored plan {kept.digest[:8]}: 0 new, 0 removed, 4 changed, 0 unchanged" in out
    assert "  changed (4), each a new run from the start: train.epochs 5 -> 7\n" in out
    assert len(out.splitlines()) == 6


def test_the_command_names_new_and_removed_cells(plan_diff, kept):
    out = plan_diff(SUITE.replace("linear", "ia3"))
    assert "2 new, 2 removed, 0 changed, 2 unchanged" in out
    assert "+ " in out
    assert "ia3 on digits, seed 1: queued" in out
    assert "  removed (2), what they left in the store stays:\n    - " in out
    assert "linear on digits, seed 1\n" in out


def test_the_command_prints_json(plan_diff, kept):
    text = SUITE.replace("epochs: 5", "epochs: 7").replace("linear", "ia3")
    out = json.loads(plan_diff(text, "--json"))
    assert out["stored_digest"] == kept.digest
    assert [run["axes"]["method"] for run in out["new"]] == ["ia3", "ia3"]
    assert [run["axes"]["method"] for run in out["removed"]] == ["linear", "linear"]
    assert [cell["fields"] for cell in out["changed"]] == [
        {"train.epochs": {"old": 5, "new": 7}}
    ] * 2
    assert out["changed"][0]["old"]["run_id"] != out["changed"][0]["new"]["run_id"]
    assert (out["unchanged"], out["waiting"], out["reopened"]) == (0, 0, [])
