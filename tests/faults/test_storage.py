"""Faults of the storage: no room, and files that were damaged."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from results.record import Attempt
from tests.faults.conftest import MAIN, SLOWED, Place, checkpoint_of, until

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


@pytest.fixture(scope="session")
def killed(tree, tmp_path_factory):
    """A run whose worker and driver were killed after its third checkpoint; its claim."""
    place = Place(tree, tmp_path_factory.mktemp("killed"))
    driver = place.start("run", place.suite("damaged", [SLOWED], epochs=4))
    claim = until(checkpoint_of(place, 3))
    os.kill(claim["pid"], signal.SIGKILL)
    driver.kill()
    driver.wait()
    return place, claim


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_passed_over_and_the_numbers_stay_right(
    place, damage, undisturbed, killed
):
    before, claim = killed
    shutil.copytree(before.folder, place.folder, dirs_exist_ok=True)
    folder = place.store_path / "checkpoints" / claim["run_id"]
    newest = max(folder.glob("*.safetensors"), key=lambda p: int(p.stem.split(".")[1]))
    harm(newest, damage)
    assert place.run("run", place.folder / "damaged.yaml")[0] == 0
    assert place.equals(undisturbed)
    assert place.attempts()[-1]["resumed_from_epoch"] == 2
    log = place.store_path / "logs" / f"{claim['run_id']}.2.log"
    assert newest.stem in log.read_text(), "what was passed over is named"


@pytest.fixture(scope="session")
def finished(tree, tmp_path_factory):
    """A suite of three runs that is done."""
    place = Place(tree, tmp_path_factory.mktemp("finished"))
    code, said = place.run("run", place.suite("torn", ["linear"], seeds=3))
    assert code == 0, said
    return place


@pytest.fixture
def torn(finished, tmp_path):
    """A copy of that suite's folder; the suite."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "torn.yaml"


def harm(path, damage):
    """Flip a bit in the middle of a file, cut it there, or delete it."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])


def test_damaged_attempt_files_are_named_and_their_runs_done_again(place, torn):
    before = place.rows()
    flipped, cut, gone = (
        place.store_path / "attempts" / f"{row['run_id']}.1.parquet" for row in before
    )
    harm(flipped, "flip")
    harm(cut, "truncate")
    harm(gone, "delete")
    for command in ("status", "fsck"):
        code, said = place.run(command)
        assert code == (7 if command == "fsck" else 0), said
        assert all(path.name in said for path in (flipped, cut))
    assert place.run("run", torn)[0] == 0
    assert place.rows() == before
    assert {row["attempts"] for row in place.rows("attempts")} == {1, 2}
    assert place.run("fsck", "--repair")[0] == 0
    assert place.run("fsck")[0] == 0
    assert place.rows() == before
    aside = place.store_path / "quarantine" / "attempts"
    assert {path.name for path in aside.glob("*.parquet")} == {flipped.name, cut.name}


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
@pytest.mark.parametrize("what", ["table", "pointer"])
def test_a_damaged_generation_is_named_and_the_numbers_stay_right(place, torn, what, damage):
    """Where the small files are gone: they were collected, for two generations held them."""
    store = place.store
    store.compact()
    store.claim("another", {})
    store.commit(Attempt(run_id="another", attempt=1, status="stopped"))
    before = place.rows()
    assert store.compact() == 2
    assert place.run("gc")[0] == 0
    assert len(list((place.store_path / "attempts").iterdir())) == 1
    tables = place.store_path / "tables"
    (part,) = tables.glob("attempts-2.*")
    path = part if what == "table" else tables / "gen-2.json"
    harm(path, damage)
    assert place.rows() == before
    lost = what == "pointer" and damage == "delete"
    if lost:  # what it named are then leftovers, once it is clear that nobody is writing them
        os.utime(part, (0, 0))
    code, said = place.run("fsck")
    assert (code, (part if lost else path).name in said) == (0 if lost else 7, True), said
    assert place.run("fsck", "--repair")[0] == 0
    assert place.run("fsck")[0] == 0
    assert place.rows() == before
    code, said = place.run("run", torn)
    assert (code, "0 runs to start" in said) == (0, True), said


def test_the_command_line_is_what_these_tests_run():
    said = subprocess.run(
        [sys.executable, "-c", MAIN, "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip()
