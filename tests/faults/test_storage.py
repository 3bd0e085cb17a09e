"""Faults of the storage: no room, and files that were damaged."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import MAIN, SLOWED, checkpoint_of, until

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(place):
    """The store of `place` on a file system of one megabyte; a prefix for commands that see it."""
    place.store_path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place.store_path)]
    if os.geteuid() == 0:
        subprocess.run(mount, check=True)
        yield place.store_path, ()
        subprocess.run(["umount", "--lazy", str(place.store_path)], check=True)
        return
    # In a namespace of its own, which this process sees through one that lives in it.
    keeper = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", f"{' '.join(mount)} && exec sleep 600"]
    )
    seen = until(lambda: _in_namespace(keeper.pid, place.store_path))
    yield seen, ("nsenter", "-t", str(keeper.pid), "-U", "-m", "--preserve-credentials")
    keeper.kill()
    keeper.wait()


def _in_namespace(pid, path):
    seen = f"/proc/{pid}/root{path}"
    return seen if os.path.ismount(seen) else None


def test_a_full_disk_delays_the_runs_and_tears_no_file(place, small_disk):
    seen, prefix = small_disk
    suite = place.suite("full", [SLOWED, "linear"], more="store: {models: none}")
    driver = place.start("run", suite, prefix=prefix)
    until(place.claims)
    ballast = Path(seen) / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass
    until(lambda: "tried again in" in driver.log.read_text())
    assert driver.poll() is None
    ballast.unlink()
    assert driver.wait(150) == 0, driver.log.read_text()
    code, said = place.run("query", "SELECT count(*) AS n FROM runs WHERE status = 'succeeded'")
    assert (code, "2" in said) == (0, True), said
    store = place.store
    assert store.attempts().num_rows >= 2
    assert store.bad_files == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_passed_over_and_the_numbers_stay_right(place, damage, undisturbed):
    suite = place.suite("damaged", [SLOWED], epochs=4)
    driver = place.start("run", suite)
    claim = until(checkpoint_of(place, 3))
    os.kill(claim["pid"], signal.SIGKILL)
    driver.kill()
    driver.wait()
    folder = place.store_path / "checkpoints" / claim["run_id"]
    newest = max(folder.glob("*.safetensors"), key=lambda p: int(p.stem.split(".")[1]))
    if damage == "delete":
        newest.unlink()
    else:
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    assert place.run("run", suite)[0] == 0
    assert place.equals(undisturbed)
    assert place.attempts()[-1]["resumed_from_epoch"] == 2
    log = place.store_path / "logs" / f"{claim['run_id']}.2.log"
    assert newest.stem in log.read_text(), "what was passed over is named"


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_attempt_file_is_named_and_its_run_done_again(place, damage):
    suite = place.suite("torn", ["linear"])
    assert place.run("run", suite)[0] == 0
    before = place.rows()
    (path,) = (place.store_path / "attempts").iterdir()
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "flip":
        data[data.index(before[0]["run_id"].encode())] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2])
    if damage != "delete":
        assert str(path.name) in place.run("status")[1]
    assert place.run("run", suite)[0] == 0
    assert place.rows() == before


def test_the_command_line_is_what_these_tests_run():
    said = subprocess.run(
        [sys.executable, "-c", MAIN, "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip()
