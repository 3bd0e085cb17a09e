"""The lease of a suite: one living holder, with real processes and real signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from results.lease import Lease, LeaseHeldError, Observer
from results.store import Store

ROOT = Path(__file__).parents[2]
BEAT = 0.2
HOLD = """
import sys, time
from results.lease import Lease
from results.store import Store
with Lease.take(Store.open(sys.argv[1]), "s", info={{"command": "hold"}}, beat_seconds={beat}) as lease:
    print(lease.name, flush=True)
    while not lease.lost:
        time.sleep(0.02)
    print("lost", flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store", create=True)


@pytest.fixture
def holder(store):
    """A process that holds the lease of suite s, once it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(beat=BEAT), str(store.path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "s.1\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def take(store, suite="s"):
    return Lease.take(store, suite, info={"command": "test"}, beat_seconds=BEAT)


def test_a_second_driver_is_refused_and_told_who_has_the_suite(store, holder):
    with pytest.raises(LeaseHeldError, match=f"process {holder.pid} on .*hold.*lease s.1"):
        take(store)
    with take(store, "another") as other:
        assert other.name == "another.1"


def test_after_a_release_the_next_one_has_it_at_once(store):
    take(store).release()
    began = time.monotonic()
    with take(store) as lease:
        assert lease.name == "s.2"
    assert time.monotonic() - began < BEAT


def test_a_killed_holder_on_this_machine_is_dead_at_once(store, holder):
    holder.kill()
    holder.wait()
    began = time.monotonic()
    with take(store) as lease:
        assert lease.name == "s.2"
    assert time.monotonic() - began < 3 * BEAT


def test_a_stopped_holder_is_taken_over_after_its_limit_and_hears_of_it(store, holder):
    holder.send_signal(signal.SIGSTOP)
    threads = Path(f"/proc/{holder.pid}/task").glob("*/stat")
    for stat in threads:  # they stop one by one, and one of them beats
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
    began = time.monotonic()
    with take(store) as lease:
        assert 5 * BEAT < time.monotonic() - began < 30 * BEAT
        assert not lease.lost
        holder.send_signal(signal.SIGCONT)
        assert holder.stdout.readline() == "lost\n"


def test_of_many_who_take_it_at_once_one_has_it(store):
    won, refused = [], []

    def race():
        try:
            won.append(take(store))
        except LeaseHeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)
    won[0].release()


def test_an_observer_tells_a_living_holder_from_one_that_ended(store, holder):
    observer = Observer(store, "s.1", beat_seconds=BEAT)
    assert observer.alive()
    time.sleep(8 * BEAT)
    assert observer.alive(), "its counter changed"
    holder.kill()
    holder.wait()
    assert not observer.alive()
    assert not Observer(store, "s.9").alive(), "a lease that nobody ever had"
