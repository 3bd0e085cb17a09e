"""The table of evaluations: each row once, whoever makes it, and damage named."""

from datetime import UTC, datetime

import pytest

from results.evaluations import Evaluation
from results.fsck import check
from results.query import query


def row(run_id="run1", alpha=1.0, **fields):
    defaults = {
        "set": "mnist",
        "split": "test",
        "mode": "all",
        "metrics": {"top1": 0.5, "nll": 1.0},
    }
    defaults |= {"created_at": datetime(2026, 1, 2, tzinfo=UTC)}
    return Evaluation(run_id=run_id, alpha=alpha, **defaults | fields)


def test_rows_come_back_in_order_with_their_metrics(store):
    assert store.save_evaluations([row(alpha=1.0), row(alpha=0.0)])
    assert store.save_evaluations([row(run_id="run0")])
    found = store.evaluations().to_pylist(maps_as_pydicts="strict")
    assert [(r["run_id"], r["alpha"]) for r in found] == [
        *(("run0", 1.0), ("run1", 0.0), ("run1", 1.0)),
    ]
    assert found[0]["metrics"] == {"nll": 1.0, "top1": 0.5}
    assert (found[0]["top1"], found[0]["nll"], found[0]["ece"]) == (0.5, 1.0, None)


def test_the_same_rows_are_kept_once_and_overlapping_ones_counted_once(store):
    assert store.save_evaluations([row(alpha=0.0), row(alpha=1.0)])
    assert not store.save_evaluations([row(alpha=1.0, seconds=9.0), row(alpha=0.0)])
    assert store.save_evaluations([row(alpha=0.5), row(alpha=1.0, seconds=3.0)])
    assert [r["alpha"] for r in store.evaluations(["alpha"]).to_pylist()] == [0.0, 0.5, 1.0]


def test_the_view_can_be_queried_and_joined(store, attempt):
    store.commit(attempt("run1", variant="lora"))
    store.save_evaluations([row()])
    sql = "SELECT variant, e.top1 FROM evaluations e JOIN runs USING (run_id)"
    assert query(store, sql).to_pylist() == [{"variant": "lora", "top1": 0.5}]
    assert query(store, "SELECT count(*) AS n FROM evaluations").to_pylist() == [{"n": 1}]


def test_a_store_without_any_has_an_empty_view(store):
    assert store.evaluations().num_rows == 0
    assert query(store, "SELECT * FROM evaluations").num_rows == 0


@pytest.mark.parametrize("damage", ["cut", "renamed"])
def test_a_damaged_file_is_set_aside_and_found(store, damage):
    store.save_evaluations([row()])
    (path,) = (store.path / "evaluations").iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path = path.rename(path.with_name(path.name.replace("run1", "run2")))
    assert store.evaluations().num_rows == 0
    assert [bad for bad, _ in store.bad_files] == [path]
    (problem,) = check(store.path).damaged
    assert (problem.path, problem.meaning) == (
        path,
        "scores of a trained run are lost; `evaluate` makes them again",
    )


def test_rows_of_two_runs_do_not_share_a_file(store):
    with pytest.raises(ValueError, match="too many values to unpack"):
        store.save_evaluations([row(), row(run_id="run2")])
