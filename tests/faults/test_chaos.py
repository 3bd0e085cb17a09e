"""Short runs while processes of every kind are killed at random times: the table must be the same."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
RUNS, SECONDS, MEAN = 200, 180, 12
KINDS = {
    "worker": "RayTrainWorker",
    "controller": "TrainController",
    "dispatcher": "ray::Dispatcher",
}
METHODS = ["linear", "{name: lora, rank: 2, dropout: 0.1}"]


def suite_of(place):
    more = "store: {models: none}\nretry: {worker_lost: unlimited, launch: unlimited}"
    return place.suite("chaos", METHODS, seeds=RUNS // len(METHODS), epochs=2, more=more)


def processes(tree):
    """Kind -> the processes of that kind that run from this tree."""
    found = {kind: [] for kind in KINDS}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            title = (folder / "cmdline").read_bytes().decode(errors="replace")
            ours = f"PYTHONPATH={tree}".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        for kind, name in KINDS.items():
            if ours and name in title:
                found[kind].append(int(folder.name))
    return found


def test_two_hundred_runs_under_random_kills_make_the_same_table(place, tmp_path_factory):
    calm = type(place)(place.tree, tmp_path_factory.mktemp("calm"))
    code, said = calm.run("run", suite_of(calm), timeout=600)
    assert code == 0, said

    suite, chance, log = suite_of(place), random.Random(7), []
    driver = place.start("run", suite)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(min(chance.expovariate(1 / MEAN), end - time.monotonic()))
        victims = {kind: pids for kind, pids in processes(place.tree).items() if pids}
        kind = chance.choice([*sorted(victims), "driver"])
        pid = driver.pid if kind == "driver" else chance.choice(victims[kind])
        log.append(f"{kind} {pid}")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        if kind == "driver":
            driver.wait()
        if driver.poll() is not None:  # killed, or it gave up: started again as a user would
            driver = place.start("run", suite)
    print("killed:", *log, sep="\n  ")
    code = driver.wait(600)
    for _ in range(3):
        if code == 0:
            break
        code, said = place.run("run", suite, timeout=600)
    assert code == 0, driver.log.read_text()[-3000:]
    rows = place.rows()
    assert len(rows) == RUNS
    assert rows == calm.rows()
    succeeded = [row["run_id"] for row in place.attempts(status="succeeded")]
    assert len(succeeded) == len(set(succeeded)), "no run was finished twice"
