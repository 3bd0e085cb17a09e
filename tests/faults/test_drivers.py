"""Faults of the driver and of whoever shares its store: killed, signalled, doubled, a late commit."""

import json
import os
import signal
import time

import pytest

from orchestrator import rows
from results.store import Store
from suites.load import load
from tests.faults.conftest import SLOWED, checkpoint_of, until

pytestmark = pytest.mark.faults


def test_after_a_killed_driver_nothing_is_repeated_or_missing_and_the_run_in_hand_resumes(
    place, undisturbed
):
    suite = place.suite("driver", [SLOWED], seeds=3, epochs=4)
    driver = place.start("run", suite)
    until(lambda: any(r["status"] == "succeeded" for r in _runs(place)))
    claim = until(checkpoint_of(place, 1))
    driver.kill()
    driver.wait()
    done = {row["run_id"] for row in place.attempts(status="succeeded")}
    in_hand = set(place.claims())
    assert claim["run_id"] in in_hand
    assert place.run("run", suite)[0] == 0
    assert place.equals(undisturbed)
    assert len(place.rows()) == 3
    assert all(len(place.attempts(run_id=run)) == 1 for run in done)
    for run in in_hand:
        assert [row["status"] for row in place.attempts(run_id=run)] == ["stopped", "succeeded"]
    assert place.attempts(run_id=claim["run_id"])[1]["resumed_from_epoch"] >= 1


def _runs(place):
    return place.store.runs().to_pylist() if (place.store_path / "logs").exists() else []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drains_and_the_run_goes_on_where_it_was(place, number, code, undisturbed):
    suite = place.suite("drained", [SLOWED], epochs=4)
    driver = place.start("run", suite)
    until(checkpoint_of(place, 2))
    driver.send_signal(number)
    assert driver.wait(60) == code
    (stopped,) = place.attempts()
    assert stopped["status"] == "stopped"
    assert place.run("run", suite)[0] == 0
    assert place.equals(undisturbed)
    assert place.attempts()[-1]["resumed_from_epoch"] >= 2


def test_a_second_signal_stops_at_once(place):
    suite = place.suite("twice", ["{name: slowed, seconds: 8}"])
    driver = place.start("run", suite)
    until(place.claims)
    time.sleep(2)
    driver.send_signal(signal.SIGINT)
    time.sleep(1)
    began = time.monotonic()
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 130
    assert time.monotonic() - began < 6
    (stopped,) = place.attempts()
    assert stopped["status"] == "stopped"


def test_a_second_driver_on_a_suite_is_told_so(place):
    suite = place.suite("held", [SLOWED], epochs=3)
    first = place.start("run", suite)
    until(place.claims)
    code, said = place.run("run", suite)
    assert code == 5
    assert str(first.pid) in said
    assert first.wait(90) == 0
    assert len(place.attempts()) == 1


def test_two_drivers_on_overlapping_suites_do_each_shared_cell_once(place):
    one = place.suite("one", [SLOWED, "linear"], seeds=2, epochs=3)
    two = place.suite("two", [SLOWED, "bitfit"], seeds=2, epochs=3)
    drivers = [place.start("run", suite, "--max-parallel", 1) for suite in (one, two)]
    assert [driver.wait(240) for driver in drivers] == [0, 0]
    assert [row["attempts"] for row in place.rows("attempts")] == [1] * 6
    assert {row["status"] for row in place.attempts()} == {"succeeded"}


def test_a_running_suite_keeps_to_the_file_that_it_started_with(place):
    suite = place.suite("edited", [SLOWED], seeds=2)
    driver = place.start("run", suite)
    until(place.claims)
    before = suite.read_text()
    suite.write_text(before.replace("lr: 1e-2", "lr: 5e-2").replace("seeds: 2", "seeds: 1"))
    assert driver.wait(90) == 0
    rates = {json.loads(row["spec"])["train"]["lr"] for row in place.attempts()}
    assert (len(place.attempts()), rates) == (2, {1e-2})


def test_a_late_commit_changes_nothing_and_says_so(place, tree):
    """A process that is stopped just before it commits, and goes on when another has closed."""
    store = Store.open(place.store_path, create=True)
    spec = next(load(str(place.suite("zombie", ["linear"]))).cells()).spec
    number = store.claim(spec.run_id, {"job": "zombie"})
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # the zombie: told to be late, it commits a success
        os.kill(os.getpid(), signal.SIGSTOP)
        row = rows.attempt(spec, number=number, status="succeeded", started_at=None)
        os.write(writer, b"won" if store.commit(row) else b"late")
        os._exit(0)
    until(lambda: _state(child) == "T")
    lost = rows.attempt(
        spec, number=number, status="failed", failure_kind="worker_lost", started_at=None
    )
    assert store.commit(lost)
    os.kill(child, signal.SIGCONT)
    assert os.read(reader, 8) == b"late"
    os.waitpid(child, 0)
    (row,) = store.attempts().to_pylist()
    assert row["status"] == "failed"


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("resources", ["{gpus: 2, workers: 2}", "{cpus: 4096}"])
def test_what_no_machine_here_has_is_refused_before_anything_starts(place, resources):
    suite = place.suite("large", ["linear"], more=f"resources: {resources}")
    code, said = place.run("run", suite)
    assert code == 2, said
    assert "allowed: at most" in said
    assert place.attempts() == []
