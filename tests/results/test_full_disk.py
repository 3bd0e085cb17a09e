"""A disk that is full or fails: nothing is half there, and doing it again is right."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from results import files
from results.record import Epoch
from results.store import Store, StoreError

ROOT = Path(__file__).parents[2]


def epochs(run_id="run1", n=1):
    return [Epoch(run_id=run_id, attempt=n, epoch=e, split="val", top1=e / 10) for e in (1, 2)]


def visible(store):
    return sorted(str(p.relative_to(store.path)) for p in store.path.rglob("*") if p.is_file())


class Fault:
    """Lets `calls` calls pass and fails the next one."""

    def __init__(self, real, calls, number):
        self.real, self.left, self.number = real, calls, number

    def __call__(self, *args):
        self.left -= 1
        if self.left == -1:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*args)


class FullFile:
    """A file that takes half of what is written."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_half_a_file_is_never_seen(tmp_path, monkeypatch):
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: FullFile(opened(self, mode)))
    with pytest.raises(StoreError, match=r"a: could not be written \(No space left on device\)"):
        files.create_exclusive(tmp_path / "a", b"x" * 1000)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert files.create_exclusive(tmp_path / "a", b"x" * 1000)


# A commit syncs four times: the epochs file, its folder, the attempt's file, its folder.
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("calls", range(4))
def test_a_commit_that_failed_anywhere_is_right_when_repeated(
    store, attempt, monkeypatch, calls, number
):
    row = attempt(seed=1, metrics={"test/top1": 0.5, "test/nll": float("nan")})
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", Fault(os.fsync, calls, number))
        with pytest.raises(StoreError, match="could not be written"):
            store.commit(row, epochs())
    assert store.bad_files == []
    after_row = calls == 3
    assert len(store.attempts()) == after_row
    assert len(store.epochs()) == 2 * after_row
    assert store.commit(row, epochs())
    assert not store.commit(attempt(seed=2), epochs())
    assert store.attempts().column("seed").to_pylist() == [1]
    assert len(store.epochs()) == 2
    left = visible(store)
    assert len(left) == 3, "the store's marker, the row and its epochs"


def test_a_commit_that_is_repeated_although_it_succeeded_is_the_same_commit(store, attempt):
    assert store.commit(attempt(seed=1), epochs())
    before = visible(store)
    assert store.commit(attempt(seed=1), epochs())
    assert visible(store) == before
    assert not store.commit(attempt(seed=1), [])
    assert not store.commit(attempt(seed=1, error=None, job="other"), epochs())
    assert visible(store) == before


# Compacting syncs the parent of tables/ and then three files with their folders.
@pytest.mark.parametrize("calls", range(7))
def test_a_compaction_that_failed_anywhere_is_right_when_repeated(
    store, attempt, monkeypatch, calls
):
    store.commit(attempt(), epochs())
    before = store.attempts(), store.epochs()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", Fault(os.fsync, calls, errno.ENOSPC))
        with pytest.raises(StoreError):
            store.compact()
    made = [path.name for path in (store.path / "tables").iterdir()]
    assert len(made) == (3 if calls == 6 else 0), made
    assert store.compact() == (None if calls == 6 else 1)
    fresh = Store.open(store.path)
    assert (fresh.attempts(), fresh.epochs()) == before
    assert fresh.bad_files == []


FILLER = """
import json, sys
from pathlib import Path
from results.record import Attempt, Epoch
from results.store import Store, StoreError

disk = Path(sys.argv[1])
store = Store.open(disk / "store", create=True)
ballast = disk / "ballast"
ballast.write_bytes(b"x" * 65536)

def commit(n):
    rows = [Epoch(run_id="run1", attempt=n, epoch=e, split="val") for e in range(50)]
    return store.commit(Attempt(run_id="run1", attempt=n, status="stopped"), rows)

committed, reason = 0, None
try:
    while True:
        store.claim("run1", {})
        assert commit(committed + 1)
        committed += 1
except StoreError as error:
    reason = str(error)
hidden = [path.name for path in disk.rglob(".*")]
fresh = Store.open(store.path)
seen, curves, bad = len(fresh.attempts()), len(fresh.epochs()), len(fresh.bad_files)
try:
    compacted = store.compact()
except StoreError as error:
    compacted = "full"
pointers = len(list(store.path.glob("tables/gen-*")))
ballast.unlink()
again = commit(committed + 1)
number = store.compact()
print(json.dumps({
    "committed": committed, "reason": reason, "hidden": hidden, "seen": seen, "curves": curves,
    "bad": bad, "compacted": compacted, "pointers": pointers, "again": again, "number": number,
    "after": len(Store.open(store.path).attempts()),
}))
"""


RUN = {"cwd": ROOT, "capture_output": True, "text": True}


def in_a_small_disk(folder, *command):
    """Run a command where `folder` is a file system of 400 KiB; None where none can be mounted."""
    mount = f'mount -t tmpfs -o size=400k tmpfs "{folder}" && exec "$@"'
    if shutil.which("unshare") is None:
        return None
    words = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    probe = subprocess.run([*words, "true"], capture_output=True)
    return None if probe.returncode else subprocess.run([*words, *command], **RUN)


def test_a_disk_that_is_really_full(tmp_path):
    done = in_a_small_disk(tmp_path, sys.executable, "-c", FILLER, str(tmp_path))
    if done is None:
        pytest.skip("no file system can be mounted here: needs unshare and user namespaces")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["committed"] > 5
    assert "No space left on device" in said["reason"]
    assert said["hidden"] == []
    assert (said["seen"], said["curves"]) == (said["committed"], 50 * said["committed"])
    assert said["bad"] == 0
    assert said["pointers"] == (0 if said["compacted"] == "full" else 1)
    assert said["again"] is True
    assert said["number"] is not None
    assert said["after"] == said["committed"] + 1
