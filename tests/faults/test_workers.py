"""Faults of a job's process: killed, crashing, hanging, stopped, out of memory, diverging."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.conftest import SLOWED, checkpoint_of, until

pytestmark = pytest.mark.faults


def test_a_killed_worker_resumes_bit_for_bit_and_repeats_at_most_one_interval(place, undisturbed):
    suite = place.suite("killed", [SLOWED], epochs=4)
    driver = place.start("run", suite)
    claim = until(checkpoint_of(place, 2))
    os.kill(claim["pid"], signal.SIGKILL)
    assert driver.wait(120) == 0, driver.log.read_text()
    assert place.equals(undisturbed)
    lost, done = place.attempts()
    assert (lost["status"], lost["failure_kind"]) == ("failed", "worker_lost")
    assert done["status"] == "succeeded"
    assert done["resumed_from_epoch"] >= 2
    reason = place.store.decisions()[lost["run_id"], 1]["reason"]
    assert "worker_lost" in reason
    _, said = place.run("explain", lost["run_id"])
    assert reason in said


def test_a_run_that_crashes_its_process_fails_alone_after_its_budget(place):
    suite = place.suite(
        "crashes", ["{name: segfaulting}", "linear"], more="retry: {worker_lost: 1}"
    )
    code, said = place.run("run", suite, timeout=240)
    assert code == 3, said
    rows = place.rows("method", "status", "failure_kind", "attempts")
    assert {(r["method"], r["status"], r["failure_kind"], r["attempts"]) for r in rows} == {
        ("segfaulting", "failed", "worker_lost", 2),
        ("linear", "succeeded", None, 1),
    }
    crashed = place.attempts(method="segfaulting")
    assert all("Segmentation fault" in row["evidence"] for row in crashed)


def test_a_hanging_worker_is_ended_in_time_with_its_stack_and_its_run_done_again(place):
    marker = place.folder / "hung"
    suite = place.suite(
        "hangs",
        [f"{{name: hanging, marker: {marker}}}"],
        more="execution: {stall_after: 4s}",
    )
    driver = place.start("run", suite)
    until(marker.exists)
    before = until(lambda: marker.stat().st_mtime)
    assert driver.wait(90) == 0, driver.log.read_text()
    stalled, done = place.attempts()
    assert (stalled["failure_kind"], done["status"]) == ("stalled", "succeeded")
    assert "hanging.py" in stalled["evidence"]
    assert stalled["ended_at"].timestamp() - before < 4 + 10


def test_a_stopped_worker_is_replaced_in_time(place):
    suite = place.suite("stopped", [SLOWED], epochs=4, more="execution: {stall_after: 4s}")
    driver = place.start("run", suite)
    claim = until(checkpoint_of(place, 1))
    os.kill(claim["pid"], signal.SIGSTOP)
    assert driver.wait(90) == 0, driver.log.read_text()
    stalled, done = place.attempts()
    assert (stalled["failure_kind"], done["status"]) == ("stalled", "succeeded")
    assert "silent for" in stalled["evidence"]
    assert done["resumed_from_epoch"] >= 1


def test_slow_but_alive_is_left_alone(place):
    """Each step takes a quarter of stall_after, the epoch more than all of it."""
    suite = place.suite(
        "slow",
        ["{name: slowed, seconds: 0.8}"],
        epochs=1,
        more="execution: {stall_after: 3s}",
    )
    assert place.run("run", suite)[0] == 0
    (done,) = place.attempts()
    assert done["train_seconds"] > 3


def test_too_little_device_memory_halves_the_micro_batch_and_keeps_the_result(place):
    roomy = place.suite("roomy", ["{name: hungry, room: 12}"])
    tight = place.suite("tight", ["{name: hungry, room: 4}"])
    assert place.run("run", roomy)[0] == 0
    assert place.run("run", tight)[0] == 0
    by_room = {dict(row["params"])["room"]: row for row in place.store.runs().to_pylist()}
    plain, adapted = by_room["12"], by_room["4"]
    assert adapted["adapted"]
    assert not plain["adapted"]
    kinds = [row["failure_kind"] for row in place.attempts(run_id=adapted["run_id"])]
    assert kinds == ["out_of_memory_device", "out_of_memory_device", None]
    for name, value in dict(plain["metrics"]).items():
        assert dict(adapted["metrics"])[name] == pytest.approx(value, abs=0.03), name


def test_too_little_host_memory_doubles_what_is_asked_for_once(place):
    """Ray's memory monitor ends the process above a limit that is set a little over what is used."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    used = memory["MemTotal"] - memory["MemAvailable"]
    limit = (used + 3 * 2**30) / memory["MemTotal"]
    marker = place.folder / "taken"
    suite = place.suite(
        "greedy",
        [f"{{name: greedy, marker: {marker}, gibibytes: 5}}"],
        more="resources: {memory: 1GiB, cpus: 2}",
    )
    prefix = ("env", f"RAY_memory_usage_threshold={limit:.3f}")
    code, said = place.run("run", suite, prefix=prefix)
    assert code == 0, said
    short, done = place.attempts()
    assert (short["failure_kind"], done["status"]) == ("out_of_memory_host", "succeeded")
    assert "running low on memory" in short["evidence"]
    assert "with 2GiB of memory instead of 1GiB" in said


def test_a_loss_that_is_not_finite_fails_at_once_with_its_epoch_and_value(place):
    suite = place.suite("diverges", ["full"], train=", optimizer: sgd", more=DIVERGING)
    code, _ = place.run("run", suite)
    assert code == 3
    (failed,) = place.attempts()
    assert failed["failure_kind"] == "non_finite"
    assert "at epoch 1, step" in failed["error"]
    assert "loss is" in failed["error"]


DIVERGING = "overrides: [{when: {method: full}, train: {lr: 1e30}}]"


def test_a_time_limit_ends_a_run(place):
    suite = place.suite(
        "late", ["{name: slowed, seconds: 0.5}"], epochs=9, more="execution: {time_limit: 3s}"
    )
    assert place.run("run", suite)[0] == 3
    (late,) = place.attempts()
    assert late["failure_kind"] == "timeout"
    assert "execution.time_limit" in late["error"]
