"""watch, stop and logs beside a driver that is only played: this process holds the suite's lease."""

import json
import threading
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from orchestrator import rows
from orchestrator.cli import watch
from orchestrator.driver import save
from orchestrator.ledger import log_path
from orchestrator.live import JobNow, Now
from orchestrator.plan import make_plan
from results.lease import STOP, STOP_NOW, Lease, newest
from results.record import Epoch
from results.store import Store

JOB = JobNow(
    job="w-1",
    run_id="r",
    run="linear on digits, seed 0",
    epoch=1,
    epochs=2,
    step=3,
    steps=4,
    images_per_second=99.0,
    seconds_left=7.0,
)
NOW = Now(succeeded=1, failed=0, left=3, seconds_left=12.0, jobs=(JOB,))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.1)


@pytest.fixture
def planned(tmp_path, make_suite):
    """A store with a plan of four runs: the first succeeded, the second has an open attempt."""
    store = Store.open(tmp_path / "store", create=True)
    suite = make_suite("w", seeds=2)
    plan = make_plan(suite, store)
    save(suite, store, plan)
    return store, [run.cell.spec for run in plan.runs]


def end(store, spec, status="succeeded", **columns):
    number = store.claim(spec.run_id, {"job": "w-1", "hostname": "here"})
    now = datetime.now(UTC)
    attempt = rows.attempt(
        spec, number=number, started_at=now, status=status, wall_seconds=1.0, job="w-1", **columns
    )
    curve = Epoch(
        run_id=spec.run_id, attempt=number, epoch=1, split="train", loss=0.5, top1=0.25,
        lr=None, grad_norm=None, seconds=1.0, images_per_second=48.0, metrics={},
    )  # fmt: skip
    store.commit(attempt, [curve])


class Driver(threading.Thread):
    """Holds the lease, says `NOW`, does its `acts` one after another, and ends; or when asked to."""

    def __init__(self, store, *acts, forever=False):
        super().__init__(daemon=True)
        self.lease = Lease.take(store, "w", info={"command": "played"}, beat_seconds=0.1)
        self.lease.say(asdict(NOW))
        self.acts, self.forever, self.ended = acts, forever, threading.Event()
        self.start()

    def run(self):
        with self.lease:
            self.ended.wait(0.3)
            for act in self.acts:
                act()
                self.ended.wait(0.4)
            while self.forever and not self.lease.asked & {STOP, STOP_NOW}:
                self.ended.wait(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.forever = False
        self.ended.set()
        self.join()


def test_watch_tells_of_runs_that_end_and_ends_with_the_driver(planned, peftgrid):
    store, (first, second, *_) = planned
    end(store, first)
    acts = (lambda: end(store, second, "failed", failure_kind="data", error="no image"),)
    with Driver(store, *acts):
        code, out, err = peftgrid("watch", "w", "--store", store.path)
    assert code == 4, "two runs are left"
    assert out == "w: no driver has it now. 4 runs: 1 succeeded, 1 failed, 2 queued\n"
    assert f"failed    {second.run_id}" in err
    assert "no image" in err
    assert first.run_id not in err, "what had ended before is no news"


def test_watch_as_json_has_a_line_for_each_event_and_state(planned, peftgrid):
    store, (first, *_) = planned
    with Driver(store, lambda: end(store, first, metrics={"test/top1": 0.5})):
        code, out, _ = peftgrid("watch", "w", "--store", store.path, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert json.loads(json.dumps(asdict(NOW))) in lines
    (ended,) = [line for line in lines if line.get("run_id") == first.run_id]
    assert (ended["status"], ended["test_top1"]) == ("succeeded", 0.5)
    assert lines[-1] == {"suite": "w", "runs": 4, "succeeded": 1, "queued": 3}


def test_watch_of_a_suite_that_nobody_runs_says_how_it_stands(planned, peftgrid):
    store, specs = planned
    for spec in specs:
        end(store, spec)
    code, out, _ = peftgrid("watch", "w", "--store", store.path)
    assert (code, out) == (0, "w: no driver has it now. 4 runs: 4 succeeded\n")


@pytest.mark.parametrize(("flags", "asked"), [((), STOP), (("--now",), STOP_NOW)])
def test_stop_asks_and_waits_until_the_driver_ended(planned, peftgrid, flags, asked):
    store, _ = planned
    with Driver(store, forever=True) as driver:
        code, out, _ = peftgrid("stop", "w", "--store", store.path, *flags)
    assert code == 0
    assert asked in driver.lease.asked
    assert out.endswith("w: its driver has ended; `peftgrid run w` goes on\n")
    assert not newest(store, "w").alive()


def test_stop_of_one_run_does_not_wait(planned, peftgrid):
    store, (first, *_) = planned
    with Driver(store, forever=True) as driver:
        code, out, _ = peftgrid("stop", "w", "--store", store.path, "--run", first.run_id[:8])
        assert newest(store, "w").alive()
        driver.ended.wait(0.5)
        assert driver.lease.asked == {f"stop-{first.run_id}"}
    assert (code, out) == (0, f"w: its driver was asked to stop {first.run_id}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stop", "w"), "nothing to stop"),
        (("stop", "other"), "no suite 'other' in"),
        (("watch", "other"), "known: w"),
        (("logs", "zzz"), "no run in"),
        (("logs", "RUN"), "no attempt in"),
        (("logs", "RUN", "--attempt", "7"), "no attempt 7 in"),
    ],
)
def test_what_is_not_there_is_told(planned, peftgrid, words, said):
    store, (first, *_) = planned
    words = [first.run_id if word == "RUN" else word for word in words]
    code, _, err = peftgrid(*words, "--store", store.path)
    assert code == 2
    assert said in err


def test_logs_show_every_attempt_with_its_curve_and_its_end(planned, peftgrid):
    store, (first, *_) = planned
    end(store, first, "failed", failure_kind="stalled", error="no progress for 9 s")
    log_path(store, first.run_id, 1).write_text("Timeout (0:00:09)!\nThread 0x1\n")
    end(store, first)
    said = [
        "attempt 1: w-1 on the driver",
        "  Timeout (0:00:09)!",
        "  Thread 0x1",
        "  failed: no progress for 9 s",
        "attempt 2: w-1 on the driver",
        "  epoch 1 train: loss 0.5000, top1 0.2500, 48 images/s",
        "  succeeded",
    ]
    code, out, _ = peftgrid("logs", first.run_id, "--store", store.path)
    assert (code, out.splitlines()) == (0, said)
    _, out, _ = peftgrid("logs", first.run_id, "--store", store.path, "--attempt", "2")
    assert out.splitlines() == said[4:]


def test_logs_follow_a_run_until_it_ends(planned, peftgrid):
    store, (first, *_) = planned
    number = store.claim(first.run_id, {"job": "w-1", "hostname": "here"})
    log = log_path(store, first.run_id, number)
    log.write_text("epoch 1 train: loss 1.0000\n")

    def more():
        with log.open("a") as file:
            file.write("epoch 2 train: loss 0.5000\n")
        now = datetime.now(UTC)
        store.commit(rows.attempt(first, number=number, started_at=now, status="stopped"))

    timer = threading.Timer(0.4, more)
    timer.start()
    code, out, _ = peftgrid("logs", first.run_id, "--store", store.path, "-f")
    timer.join()
    assert code == 0
    assert [line.strip() for line in out.splitlines()][1:] == [
        "epoch 1 train: loss 1.0000",
        "epoch 2 train: loss 0.5000",
        "stopped",
    ]
