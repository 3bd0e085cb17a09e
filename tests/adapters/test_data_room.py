"""The decoded images of a node stay within their limit, and a maker that dies leaves no harm."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adapters.data import _decoded, _room
from adapters.data.contract import Images

ROOT = Path(__file__).parents[2]
MAKER = """
import sys, time, numpy as np
from adapters.data import _decoded
from adapters.data.contract import Images
_decoded._IN_MEMORY = 0
if sys.argv[1] == "slow":
    old = _decoded._pieces
    def slow(*given):
        for piece in old(*given):
            print("making", flush=True)
            yield piece
            time.sleep(60)
    _decoded._pieces = slow
images = Images(np.full((4, 8, 8, 3), 7, np.uint8), np.arange(4))
print(int(_decoded.decoded(images, 8, "bicubic", "squash").sum()))
"""


def entry(folder, name, size, age):
    path = folder / f"{name}.u8"
    path.write_bytes(b"\0" * size)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(_room.VARIABLE, "1e-6")  # a thousand bytes
    old, middle, new = (
        entry(tmp_path, n, 300, age) for n, age in (("a", 30), ("b", 20), ("c", 10))
    )
    assert _room.make_room(tmp_path, 100) == []
    _room.used(old)
    assert _room.make_room(tmp_path, 300) == [middle]
    assert old.exists()
    assert new.exists()


def test_what_is_mapped_stays_readable_after_it_was_removed(tmp_path, monkeypatch):
    path = entry(tmp_path, "a", 600, 10)
    path.write_bytes(bytes([5]) * 600)
    mapped = np.memmap(path, np.uint8, mode="c")
    monkeypatch.setenv(_room.VARIABLE, "1e-6")
    assert _room.make_room(tmp_path, 900) == [path]
    assert int(mapped.sum()) == 3000


def test_a_set_that_is_too_large_alone_is_refused_and_nothing_is_removed(tmp_path, monkeypatch):
    path = entry(tmp_path, "a", 600, 10)
    monkeypatch.setenv(_room.VARIABLE, "1e-6")
    with pytest.raises(ValueError, match=r"decoded images: .* needed .*PEFTGRID_CACHE_GB"):
        _room.make_room(tmp_path, 1001)
    assert path.exists()


def test_without_a_limit_the_disk_is_one(tmp_path):
    entry(tmp_path, "a", 600, 10)
    assert _room.make_room(tmp_path, 10**6) == []
    with pytest.raises(ValueError, match=r"90% of the free disk"):
        _room.make_room(tmp_path, 10**18)


@pytest.mark.parametrize("given", ["much", "-1", "inf"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.setenv(_room.VARIABLE, given)
    with pytest.raises(ValueError, match=r"PEFTGRID_CACHE_GB: .* given, allowed: a number"):
        _room.limit(tmp_path)


def test_a_maker_that_is_killed_leaves_the_lock_to_the_next(tmp_path):
    def start(how):
        return subprocess.Popen(
            [sys.executable, "-c", MAKER, how],
            cwd=ROOT,
            env=os.environ | {"PEFTGRID_CACHE": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )

    first = start("slow")
    assert first.stdout.readline() == "making\n"
    second = start("quick")
    time.sleep(0.5)
    assert second.poll() is None, "it waits for the lock"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=60)[0].strip() == str(7 * 4 * 3 * 64)
    assert [path.suffix for path in (tmp_path / "decoded").glob("*.[ut]*")] == [".u8"]


def test_what_a_killed_maker_left_is_removed_and_what_a_living_one_makes_is_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(_room.VARIABLE, "1e-6")
    dead, living = tmp_path / "dead.tmp", tmp_path / "living.tmp"
    with (tmp_path / "living.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (tmp_path / "dead.lock").touch()
        _room.reserve(dead, 600)
        _room.reserve(living, 600)
        assert not dead.exists(), "nobody makes it any more"
        assert living.stat().st_size == 600
        old = entry(tmp_path, "a", 300, 10)
        assert _room.make_room(tmp_path, 300) == [old]
        assert living.exists()


def test_images_that_are_removed_before_they_are_mapped_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path))
    monkeypatch.setattr(_decoded, "_IN_MEMORY", 0)
    used, calls = _room.used, []

    def removed_once(path):
        used(path)
        calls.append(path)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(_room, "used", removed_once)
    images = Images(np.full((4, 8, 8, 3), 7, np.uint8), np.arange(4))
    assert int(_decoded.decoded(images, 8, "bicubic", "squash").sum()) == 7 * 4 * 3 * 64
    assert len(calls) == 2
