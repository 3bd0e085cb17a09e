"""One process drives a suite; a dead, stopped or finished one does not keep the next out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from results import lease as lease_module
from results.files import create_exclusive
from results.lease import Lease, LeaseHeldError, on_network
from results.store import Store, StoreError

ROOT = Path(__file__).parents[2]
BEAT = 0.2
NEVER = 60.0
"""Seconds after which a beat counts as dead in tests that must not wait for that."""

HOLDER = """
import json, sys
from results.lease import Lease, LeaseHeldError
from results.store import Store

store, info = Store.open(sys.argv[1]), json.loads(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    lease = Lease.take(store, "demo", beat_seconds=0.2, info=info)
except LeaseHeldError as error:
    print("refused by", error.owner["pid"], flush=True)
    sys.stdin.readline()
else:
    print("held", lease.number, flush=True)
    for line in sys.stdin:
        if line == "release\\n":
            lease.release()
        print(lease.lost, flush=True)
"""


class Holder:
    """A process that takes the lease when it is told to."""

    def __init__(self, store, info):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(store.path), json.dumps(info)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, word="go"):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, word="go"):
        self.tell(word)
        return self.hear()

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder(store):
    with ExitStack() as stack:

        def start(**info):
            started = Holder(store, info)
            stack.callback(started.end)
            return started

        yield start


def take_at_once(store):
    """A lease that is taken without waiting until a beat counts as dead."""
    start = time.monotonic()
    lease = Lease.take(store, "demo", beat_seconds=BEAT, dead_after=NEVER)
    assert time.monotonic() - start < NEVER / 2
    return lease


def test_a_second_process_is_refused_and_told_who_holds_it(store, holder):
    first = holder(note="nightly")
    assert first.ask() == "held 1"
    with pytest.raises(LeaseHeldError, match=f"held by process {first.process.pid}") as refused:
        Lease.take(store, "demo", beat_seconds=BEAT)
    assert isinstance(refused.value, StoreError)
    assert refused.value.owner["note"] == "nightly"
    assert refused.value.path == store.path / "lease" / "demo.1.json"
    assert first.ask("lost?") == "False"
    with Lease.take(store, "demo-2", beat_seconds=BEAT) as other:
        assert other.number == 1, "another suite is free"


def test_a_killed_holder_on_the_same_machine_is_dead_at_once(store, holder):
    first = holder()
    assert first.ask() == "held 1"
    first.end()
    with take_at_once(store) as lease:
        assert lease.number == 2


def test_a_killed_holder_that_its_parent_did_not_wait_for_is_dead_too(store, holder):
    first = holder()
    assert first.ask() == "held 1"
    first.process.kill()
    with take_at_once(store) as lease:
        assert lease.number == 2


def test_a_killed_holder_elsewhere_is_dead_after_six_beats(store, holder):
    first = holder(hostname="elsewhere")
    assert first.ask() == "held 1"
    first.end()
    start = time.monotonic()
    with Lease.take(store, "demo", beat_seconds=BEAT) as lease:
        assert lease.number == 2
    assert time.monotonic() - start >= 6 * BEAT


def test_a_stopped_holder_is_taken_over_and_sees_it_when_it_goes_on(store, holder):
    first = holder()
    assert first.ask() == "held 1"
    first.process.send_signal(signal.SIGSTOP)
    with Lease.take(store, "demo", beat_seconds=BEAT) as lease:
        assert lease.number == 2
        first.process.send_signal(signal.SIGCONT)
        assert first.ask("lost?") == "True"
        assert first.ask("release") == "True"
        assert not lease.lost
        with pytest.raises(LeaseHeldError):
            Lease.take(store, "demo", beat_seconds=BEAT)


def test_of_two_racing_takers_exactly_one_wins(store, holder):
    takers = [holder(), holder()]
    for taker in takers:
        taker.tell()
    said = sorted(taker.hear() for taker in takers)
    assert said[0] == "held 1"
    assert said[1] in {f"refused by {taker.process.pid}" for taker in takers}
    assert len(list((store.path / "lease").glob("*.json"))) == 1


def test_of_racing_takers_of_a_dead_lease_exactly_one_wins(store, holder):
    dead = holder(hostname="elsewhere")
    assert dead.ask() == "held 1"
    dead.end()
    takers = [holder(), holder()]
    for taker in takers:
        taker.tell()
    said = sorted(taker.hear() for taker in takers)
    assert said[0] == "held 2"
    assert said[1].startswith("refused")


def test_a_released_lease_is_free_at_once(store):
    with Lease.take(store, "demo", beat_seconds=BEAT) as first:
        assert not first.lost
    second = take_at_once(store)
    assert second.number == 2
    second.release()
    second.release()
    assert not second.lost, "released, not lost"


def test_a_late_beat_does_not_undo_the_release(store, monkeypatch):
    write, beating = Lease._write_beat, threading.Event()

    def slow(self, count):
        if count:
            beating.set()
            time.sleep(0.3)
        write(self, count)

    monkeypatch.setattr(Lease, "_write_beat", slow)
    lease = Lease.take(store, "demo", beat_seconds=0.01)
    beating.wait(60)
    lease.release()
    time.sleep(0.4)
    assert lease.path.with_suffix(".beat").read_text() == "released"


def test_a_living_holder_is_waited_for(store):
    first = Lease.take(store, "demo", beat_seconds=BEAT)
    timer = threading.Timer(5 * BEAT, first.release)
    timer.start()
    with Lease.take(store, "demo", beat_seconds=BEAT, wait=60.0, dead_after=NEVER) as second:
        assert second.number == 2
    timer.join()


def test_a_lease_whose_file_is_gone_is_lost_for_good(store):
    with Lease.take(store, "demo", beat_seconds=BEAT) as lease:
        data = lease.path.read_bytes()
        lease.path.unlink()
        assert lease.lost
        lease.path.write_bytes(data)
        assert lease.lost


def test_a_lease_whose_file_cannot_be_looked_at_is_not_lost(store, monkeypatch):
    def fail(self, **_):
        raise OSError(5, "Input/output error")

    with Lease.take(store, "demo", beat_seconds=NEVER) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", fail)
            assert not lease.lost
        assert not lease.lost


def write_lease(store, **changes):
    """A lease as this process would take it, with changes and without a beat."""
    (store.path / "lease").mkdir(exist_ok=True)
    body = {**lease_module._myself(), "beat_seconds": BEAT, **changes}
    create_exclusive(store.path / "lease" / "demo.1.json", json.dumps(body).encode())


def test_a_process_number_that_was_given_again_is_not_the_holder(store):
    write_lease(store, start_ticks=1)
    with take_at_once(store) as lease:
        assert lease.number == 2


@pytest.mark.parametrize(
    "elsewhere", [{"hostname": "other"}, {"boot_id": "other"}, {"pid_namespace": "other"}]
)
def test_a_process_number_of_another_machine_says_nothing(store, elsewhere):
    write_lease(store, pid=2**22 + 1, **elsewhere)
    start = time.monotonic()
    with Lease.take(store, "demo", beat_seconds=BEAT, dead_after=0.5) as lease:
        assert lease.number == 2
    assert time.monotonic() - start >= 0.5


def test_a_torn_lease_is_judged_by_its_beat(store):
    (store.path / "lease").mkdir()
    (store.path / "lease" / "demo.7.json").write_bytes(b"{")
    with Lease.take(store, "demo", beat_seconds=BEAT) as lease:
        assert lease.number == 8


def test_time_in_which_the_watcher_stood_still_does_not_count(store, monkeypatch):
    write_lease(store, hostname="elsewhere")
    beat = store.path / "lease" / "demo.1.beat"
    clock, naps = [0.0], []

    class Time:
        @staticmethod
        def monotonic():
            return clock[0]

        @staticmethod
        def sleep(seconds):
            naps.append(seconds)
            clock[0] += 1000.0
            if len(naps) == 3:
                beat.write_text("1")

    monkeypatch.setattr(lease_module, "time", Time)
    with pytest.raises(LeaseHeldError):
        Lease.take(store, "demo", beat_seconds=BEAT)


def test_a_full_disk_does_not_end_the_beat(store, monkeypatch):
    replace = Path.replace
    failures = []

    def full(self, target):
        if len(failures) < 3:
            failures.append(target)
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with Lease.take(store, "demo", beat_seconds=0.02) as lease:
        deadline = time.monotonic() + 30
        while not lease.path.with_suffix(".beat").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not [path for path in lease.path.parent.iterdir() if path.name.startswith(".")]


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/me/fast xfs rw 0 0
bucket /mnt/my\\040bucket fuse.s3fs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("/var/runs", False),
        ("/home/me/runs", True),
        ("/homework", False),
        ("/home/me/fast/runs", False),
        ("/mnt/my bucket/runs", True),
    ],
)
def test_network_file_systems_are_told_from_the_mounts(tmp_path, path, remote):
    (tmp_path / "mounts").write_text(MOUNTS)
    assert on_network(Path(path), tmp_path / "mounts") is remote
    assert on_network(Path(path), tmp_path / "none") is False


def test_on_a_network_file_system_a_beat_must_stand_still_for_two_minutes(store, monkeypatch):
    write_lease(store, hostname="elsewhere")
    monkeypatch.setattr(lease_module, "on_network", lambda path: True)
    slept = []

    class Time:
        monotonic = staticmethod(lambda: sum(slept))
        sleep = staticmethod(slept.append)

    monkeypatch.setattr(lease_module, "time", Time)
    with Lease.take(store, "demo", beat_seconds=BEAT) as lease:
        assert lease.number == 2
    assert sum(slept) == pytest.approx(120, abs=1)


def test_gc_leaves_only_the_latest_lease(store):
    for _ in range(3):
        with Lease.take(store, "demo", beat_seconds=BEAT):
            pass
    with Lease.take(store, "other", beat_seconds=BEAT):
        assert Store.open(store.path).gc().leases == 4
    names = sorted(os.listdir(store.path / "lease"))  # noqa: PTH208
    assert names == ["demo.3.beat", "demo.3.json", "other.1.beat", "other.1.json"]
