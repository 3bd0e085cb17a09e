"""A suite of two shapes on a real Ray: one trained by two workers beside one of a single worker."""

import os
import signal

import pytest

from orchestrator.driver import drive
from results.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHAPES = "overrides: [{when: {method: linear}, resources: {workers: 2}}]\n"


class Silent:
    """A view that keeps what it is told."""

    def __init__(self):
        self.notes, self.events = [], []

    def note(self, text):
        self.notes.append(text)

    def event(self, event, spec):
        self.events.append((event, spec))

    def update(self, now):
        pass


class Killing(Silent):
    """A view that kills the first worker of the first job of two once it trains."""

    def __init__(self):
        super().__init__()
        self.killed, self.pids = None, {}

    def event(self, event, spec):
        super().event(event, spec)
        if event.kind == "launched":
            self.pids[event.job] = event.detail["pid"]
        if event.kind == "training" and spec.method == "linear" and self.killed is None:
            self.killed = self.pids[event.job]
            os.kill(self.killed, signal.SIGKILL)


def driven(suite, folder, view):
    store = Store.open(folder, create=True)
    outcome = drive(suite, store, view)
    assert (outcome.problem, outcome.failed, outcome.left) == (None, 0, 0), view.notes
    return {row["run_id"]: row for row in store.runs().to_pylist()}, store


def test_two_shapes_come_to_the_numbers_of_one(ray_cluster, make_suite, tmp_path):
    one, _ = driven(make_suite("one", seeds=2), tmp_path / "one", Silent())
    two, store = driven(make_suite("two", seeds=2, more=SHAPES), tmp_path / "two", Silent())
    assert one.keys() == two.keys()
    job_of = {row["run_id"]: row["job"] for row in store.attempts().to_pylist()}
    jobs = {}
    for run_id, row in two.items():
        jobs.setdefault(row["method"], set()).add(job_of[run_id])
        for key, value in row["metrics"]:
            assert value == pytest.approx(dict(one[run_id]["metrics"])[key], rel=1e-3), key
        assert row["cost_comparable"] is (row["method"] != "linear")
    assert not jobs["linear"] & jobs["lora"]


def test_a_run_of_two_workers_goes_on_after_one_was_killed(ray_cluster, make_suite, tmp_path):
    view = Killing()
    suite = make_suite("killed", methods="[linear]", more=SHAPES)
    rows, store = driven(suite, tmp_path / "store", view)
    assert view.killed is not None
    kinds = [row["failure_kind"] for row in store.attempts().to_pylist()]
    assert sorted(kinds, key=str) == [None, "worker_lost"]
    assert [row["status"] for row in rows.values()] == ["succeeded"]
