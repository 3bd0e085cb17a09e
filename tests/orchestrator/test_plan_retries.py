"""A run whose retry was decided and never begun is unfinished, not failed."""

from datetime import UTC, datetime

import pytest

from orchestrator import rows
from orchestrator.plan import Wanted, make_plan
from results.store import Store


@pytest.fixture
def failed(make_suite, tmp_path):
    """A suite of one run, and a store in which it failed once."""
    suite = make_suite("one", methods="[linear]")
    store = Store.open(tmp_path / "store", create=True)
    spec = next(suite.cells()).spec
    number = store.claim(spec.run_id, {"job": "j"})
    now = datetime.now(UTC)
    store.commit(
        rows.attempt(
            spec, number=number, status="failed", failure_kind="worker_lost", started_at=now
        )
    )
    return suite, store, spec.run_id


def test_without_a_decision_it_is_failed(failed):
    suite, store, _ = failed
    assert make_plan(suite, store).counts() == {"failed": 1}


@pytest.mark.parametrize(("again", "counts"), [(True, {"stopped": 1}), (False, {"failed": 1})])
def test_the_decision_about_its_last_attempt_counts(failed, again, counts):
    suite, store, run_id = failed
    store.save_decision(run_id, 1, {"again": again, "reason": "because"})
    plan = make_plan(suite, store)
    assert plan.counts() == counts
    assert len(plan.to_do(Wanted())) == (1 if again else 0)


@pytest.mark.parametrize(
    ("wanted", "statuses"),
    [
        (Wanted(), {"queued"}),
        (Wanted(failed=True), {"queued", "failed"}),
        (Wanted(failed=True, unfinished=False), {"failed"}),
        (Wanted(failed=True, unfinished=False, kinds=frozenset({"worker_lost"})), {"failed"}),
        (Wanted(failed=True, unfinished=False, kinds=frozenset({"data"})), set()),
        (Wanted(failed=True, kinds=frozenset({"data"})), {"queued"}),
    ],
)
def test_what_is_started_is_what_was_asked_for(failed, make_suite, wanted, statuses):
    _, store, _ = failed
    both = make_suite("both", methods="[linear, bitfit]")
    assert {run.status for run in make_plan(both, store).to_do(wanted)} == statuses


def test_the_first_decision_stands_and_a_damaged_one_is_set_aside(failed):
    suite, store, run_id = failed
    store.save_decision(run_id, 1, {"again": True, "reason": "first"})
    store.save_decision(run_id, 1, {"again": False, "reason": "second"})
    assert store.decisions()[run_id, 1]["reason"] == "first"
    path = store.path / "decisions" / f"{run_id}.1.json"
    path.write_text("{")
    assert store.decisions() == {}
    assert [bad for bad, _ in store.bad_files] == [path]
    assert make_plan(suite, store).counts() == {"failed": 1}
