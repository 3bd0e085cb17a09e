"""Suites driven on a real Ray: what starts, what is committed, and that nothing else matters."""

import json
import os
import shutil
import signal
import threading
import time

import pytest

import adapters
from adapters import backbones
from orchestrator.driver import drive
from orchestrator.plan import Wanted, make_plan
from results.lease import STOP, STOP_RUN, newest
from results.models import model_of
from results.predictions import correct, predictions_of
from results.store import Store

pytestmark = pytest.mark.ray
SCIENCE = (
    *("run_id", "status", "best_epoch", "metrics", "train_top1", "val_top1", "test_top1"),
    *("test_nll", "test_ece", "trainable_params", "adapter_params", "head_params", "total_params"),
)


# Runs that last for hours unless they are stopped: all of a suite's, or the one of seed 0.
SLOW = "overrides: [{when: {method: linear}, train: {epochs: 100000}}]\n"
SLOW_FIRST = "overrides: [{when: {seed: 0}, train: {epochs: 100000}}]\n"


class Silent:
    """A view that keeps what it is told."""

    def __init__(self):
        self.notes, self.events = [], []

    def note(self, text):
        self.notes.append(text)

    def event(self, event, spec):
        self.events.append(event)

    def update(self, now):
        pass


class Asking(Silent):
    """A view that leaves a request in the store when the first run trains."""

    def __init__(self, store, suite, what):
        super().__init__()
        self.store, self.suite, self.what, self.run_id = store, suite, what, None

    def event(self, event, spec):
        super().event(event, spec)
        if event.kind == "training" and self.run_id is None:
            self.run_id = event.run_id
            newest(self.store, self.suite).ask(self.what.format(run=event.run_id))


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


def science(store):
    return store.runs().select(SCIENCE).to_pylist()


def jobs_of(store):
    return {row["run_id"]: row["job"] for row in store.attempts().to_pylist()}


@pytest.fixture(scope="module")
def driven(ray_cluster, make_suite, tmp_path_factory):
    """A finished suite of two methods and two seeds, by two jobs: its store and its outcome."""
    store = Store.open(tmp_path_factory.mktemp("driven") / "store", create=True)
    with pytest.MonkeyPatch.context() as patch:
        # Alone, the first job would have done all of it before the second is there.
        patch.setattr("orchestrator.staff.FIRST_ALONE", False)
        return store, drive(make_suite("first", seeds=2), store, Silent())


@pytest.fixture
def finished(driven, tmp_path):
    """A copy of the finished suite's store."""
    return Store.open(shutil.copytree(driven[0].path, tmp_path / "finished"))


def test_every_run_of_a_suite_succeeds_and_shows_its_scores(driven):
    store, outcome = driven
    assert outcome.problem is None
    assert (outcome.started, outcome.succeeded, outcome.failed, outcome.left) == (4, 4, 0, 0)
    assert outcome.seconds_to_first_step > 0
    rows = store.runs().to_pylist()
    assert len(rows) == 4
    for row in rows:
        assert 0 <= row["val_top1"] <= 1
        assert 0 <= row["test_top1"] <= 1
        assert row["threads"] == 1
        assert row["device"].startswith("cpu")
        assert dict(row["versions"])["torch"]
        assert row["dataset_group"] == "structured"
        assert row["wall_seconds"] > row["train_seconds"] > 0
        with model_of(store, row) as model:
            assert row["model_bytes"] == model.stat().st_size
            loaded = adapters.load(backbones.create(row["backbone"]), model)
        assert loaded.method == row["method"]
        assert correct(predictions_of(store, row)).mean() == row["test_top1"]
    # Two training epochs, two validations, and the test set once.
    curve = store.epochs().to_pylist()
    assert sorted((e["epoch"], e["split"]) for e in curve if e["run_id"] == rows[0]["run_id"]) in (
        sorted([*((n, s) for n in (1, 2) for s in ("train", "val")), (best, "test")])
        for best in (1, 2)
    )


def test_only_what_is_missing_starts(make_suite, finished):
    suite = make_suite("first", seeds=2)
    before = science(finished)
    assert drive(suite, finished, Silent()).started == 0

    sorted((finished.path / "attempts").iterdir())[0].unlink()
    assert drive(suite, finished, Silent()).started == 1
    assert science(finished) == before, "the run that was repeated has the same numbers"

    wider = make_suite("first", seeds=3)
    assert make_plan(wider, finished).counts() == {"succeeded": 4, "queued": 2}
    other_name = make_suite("second", seeds=2)
    assert make_plan(other_name, finished).counts() == {"succeeded": 4}
    assert drive(other_name, finished, Silent()).started == 0


def test_one_job_gives_the_same_table_as_two(driven, make_suite, store):
    suite = make_suite("first", seeds=2)
    assert drive(suite, store, Silent(), max_parallel=1).succeeded == 4
    assert science(store) == science(driven[0])
    assert set(jobs_of(store).values()) == {"first-1"}
    assert set(jobs_of(driven[0]).values()) == {"first-1", "first-2"}


def test_a_job_per_run_is_named_by_its_run_and_gives_the_same_rows(driven, make_suite, store):
    suite = make_suite("each", methods="[linear]", seeds=2, more="execution: {runs_per_job: 1}\n")
    assert drive(suite, store, Silent()).succeeded == 2
    assert all(run_id == name for run_id, name in jobs_of(store).items())
    rows = science(store)
    assert len(rows) == 2
    assert all(row in science(driven[0]) for row in rows)


def test_a_request_in_the_store_stops_a_drive_and_the_rest_is_done_later(driven, make_suite, store):
    suite = make_suite("asked", methods="[linear]", train="", more=SLOW)
    view = Asking(store, "asked", STOP)
    outcome = drive(suite, store, view, max_parallel=1)
    assert outcome.stopping
    assert outcome.signal is None
    assert outcome.left == 1
    assert [row["status"] for row in store.attempts().to_pylist()] == ["stopped"]
    assert any("stopping at the next step" in note for note in view.notes)


def test_a_request_to_stop_one_run_leaves_the_others_alone(driven, make_suite, store):
    suite = make_suite("apart", methods="[linear]", seeds=3, more=SLOW_FIRST)
    view = Asking(store, "apart", STOP_RUN + "{run}")
    outcome = drive(suite, store, view, max_parallel=1)
    assert (outcome.succeeded, outcome.left, outcome.stopping) == (2, 1, False)
    statuses = {row["run_id"]: row["status"] for row in store.runs().to_pylist()}
    assert statuses.pop(view.run_id) == "stopped"
    assert set(statuses.values()) == {"succeeded"}


def test_a_failed_run_is_a_row_and_the_suite_goes_on(ray_cluster, make_suite, store):
    suite = make_suite(
        "fails",
        methods="[linear, full]",
        train=", lr: 1e-2, optimizer: sgd",
        more="overrides: [{when: {method: full}, train: {lr: 1e30}}]\n",
    )
    outcome = drive(suite, store, Silent())
    assert (outcome.succeeded, outcome.failed, outcome.left) == (1, 1, 0)
    rows = {row["method"]: row for row in store.runs().to_pylist()}
    assert rows["linear"]["status"] == "succeeded"
    assert (rows["full"]["status"], rows["full"]["failure_kind"]) == ("failed", "non_finite")
    assert "at epoch 1, step" in rows["full"]["error"]
    (failed,) = [row for row in store.attempts().to_pylist() if row["method"] == "full"]
    assert "NonFiniteError" in failed["evidence"]

    assert drive(suite, store, Silent()).started == 0, "run leaves a failed run as it is"
    again = drive(suite, store, Silent(), wanted=Wanted(failed=True))
    assert (again.started, again.failed) == (1, 1)
    attempts = [row["attempt"] for row in store.attempts().to_pylist() if row["method"] == "full"]
    assert attempts == [1, 2]


def test_the_winner_on_validation_makes_the_finals(ray_cluster, make_suite, store):
    suite = make_suite(
        "tuned",
        methods="[linear]",
        seeds=2,
        train="",
        more="""
        protocol:
          tune: {grid: {lr: [1e-9, 3e-2]}, seeds: [0]}
          final: {fit: train, score: test}
        """,
    )
    assert make_plan(suite, store).counts() == {"queued": 2, "waiting": 2}
    outcome = drive(suite, store, Silent())
    assert (outcome.started, outcome.succeeded, outcome.left) == (4, 4, 0)
    rows = store.runs().to_pylist()
    rate = {row["run_id"]: json.loads(row["spec"])["train"]["lr"] for row in rows}
    tuned = [row for row in rows if row["test_top1"] is None]
    final = [row for row in rows if row["test_top1"] is not None]
    winner = max(tuned, key=lambda row: row["val_top1"])
    assert {rate[row["run_id"]] for row in final} == {rate[winner["run_id"]]} == {3e-2}
    planned = {row.run_id: row for row in store.plan("tuned")}
    assert all(planned[row["run_id"]].selected_from == winner["config_id"] for row in final)
    assert drive(suite, store, Silent()).started == 0


def test_a_worker_that_is_killed_leaves_a_row_and_its_run_is_done_again(
    ray_cluster, make_suite, store
):
    """SIGKILL to the process of the job while its run trains; another of its runs is unaffected."""
    suite = make_suite("killed", methods="[linear]", seeds=2, train=", lr: 1e-2, weight_decay: 0.5")
    undisturbed = Store.open(store.path.parent / "undisturbed", create=True)
    drive(suite, undisturbed, Silent(), max_parallel=1)

    killed = []

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            for claim in store.open_claims().values():
                os.kill(claim["pid"], signal.SIGKILL)
                killed.append(claim["run_id"])
                break
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    outcome = drive(suite, store, Silent(), max_parallel=1)
    thread.join()
    assert killed
    assert (outcome.succeeded, outcome.failed, outcome.left) == (2, 0, 0)
    lost = [row for row in store.attempts().to_pylist() if row["status"] == "failed"]
    assert [(row["run_id"], row["attempt"]) for row in lost] == [(killed[0], 1)]
    assert lost[0]["failure_kind"] in ("worker_lost", "launch")
    decision = store.decisions()[killed[0], 1]
    assert decision["again"]
    assert lost[0]["failure_kind"] in decision["reason"]
    assert not any((store.path / "checkpoints").iterdir()), "finished runs leave none behind"
    assert science(store) == science(undisturbed)


def test_a_worker_that_finds_other_packages_says_so(ray_cluster, make_suite, store, monkeypatch):
    from orchestrator import packages

    real = packages.found()
    monkeypatch.setattr(packages, "found", lambda: real | {"results": "/elsewhere/results.py"})
    outcome = drive(make_suite("mixed", methods="[linear]"), store, Silent(), max_parallel=1)
    assert outcome.left == 1
    assert "/elsewhere/results.py" in outcome.problem
    assert "'results'" in outcome.problem
