"""Two drivers that share a store never have one run in hand, in whatever order they come."""

import pytest

from orchestrator.claims import open_attempt
from results.record import Attempt
from results.store import Store

OURS, THEIRS = {"lease": "one.1", "pid": 1}, {"lease": "two.1", "pid": 2}


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


def end(store, number, status, kind=None):
    assert store.commit(Attempt(run_id="run1", attempt=number, status=status, failure_kind=kind))


def test_the_first_opens_and_the_second_hears_who_has_it(store):
    assert open_attempt(store, "run1", OURS) == 1
    refused = open_attempt(store, "run1", THEIRS)
    assert (refused.number, refused.claim["lease"]) == (1, "one.1")
    assert store.latest("run1").number == 1


def test_a_run_that_was_done_since_it_was_planned_is_not_done_again(store):
    open_attempt(store, "run1", OURS)
    end(store, 1, "succeeded")
    assert open_attempt(store, "run1", THEIRS).succeeded
    assert store.latest("run1").number == 1


def test_of_two_that_found_it_free_at_once_one_opens_it(store, monkeypatch):
    """The other looks before the first opens, and opens after it."""
    free, real = store.latest("run1"), store.latest
    assert open_attempt(store, "run1", OURS) == 1
    looks = iter([free])
    monkeypatch.setattr(store, "latest", lambda run_id: next(looks, None) or real(run_id))
    assert open_attempt(store, "run1", THEIRS).claim["lease"] == "one.1"
    assert real("run1").number == 1


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_what_ended_badly_is_attempted_again_by_any_driver(store, status):
    open_attempt(store, "run1", OURS)
    end(store, 1, status, "data" if status == "failed" else None)
    assert open_attempt(store, "run1", THEIRS) == 2


def test_an_attempt_that_a_failed_call_did_open_is_taken_up(store):
    assert open_attempt(store, "run1", OURS) == 1
    assert open_attempt(store, "run1", OURS) == 1
    assert open_attempt(store, "run1", OURS | {"pid": 3}) == 2
