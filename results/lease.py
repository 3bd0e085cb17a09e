"""A lease: at most one process drives a suite of a store, and a dead one does not block the next.

    lease/<suite>.<n>.json   who took it; made by exclusive create, the highest n counts
    lease/<suite>.<n>.beat   a counter while its holder lives; at last, that it was released

No clock is compared with another machine's. Who wants a lease that is held watches the beat on its
own monotonic clock: a beat that changes is alive, one that stands still for six intervals is dead.
On a network file system it must stand still for two minutes at least, because attribute caches
hide a change for up to one. That is told from the type that /proc/mounts names, so without /proc
give `dead_after`. A holder on the same machine whose process is gone is dead at once.

A lease saves work. What keeps rows single is the exclusive create of the attempt's row, so a
holder that was stopped, lost its lease and wakes up does no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from results.errors import LeaseHeldError as LeaseHeldError
from results.errors import StoreError
from results.files import create_exclusive, make_folder, read_json
from results.store import Store

BEATS = 6
"""How many intervals a beat stands still before its holder counts as dead."""
NETWORK_SECONDS = 120.0
"""The least of that time on a network file system."""

_RELEASED = "released"
_NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
# Of what runs over FUSE only the maker knows where it keeps its files.
_PERHAPS_NETWORK = "fuse."
_NAMED = re.compile(r"([A-Za-z0-9_-]+)\.([1-9][0-9]*)\.(?:json|beat)")


class Lease:
    """A lease that this process took. Make it with `Lease.take`; leave it with `release`."""

    def __init__(self, path: Path, beat_seconds: float) -> None:
        self.path = path
        """Its file, `lease/<suite>.<n>.json`."""
        named = split_name(path.name)
        assert named is not None, path
        suite, self.number = named
        self._next = path.with_name(f"{suite}.{self.number + 1}.json")
        self._beat_seconds = beat_seconds
        self._lost = False
        self._released = threading.Event()
        self._write_beat(0)
        self._thread = threading.Thread(target=self._keep, name=f"lease-{suite}", daemon=True)
        self._thread.start()

    @staticmethod
    def take(
        store: Store,
        suite: str,
        *,
        info: Mapping[str, Any] | None = None,
        wait: float = 0.0,
        beat_seconds: float = 2.0,
        dead_after: float | None = None,
    ) -> Lease:
        """The lease of a suite. A holder is watched until its beat changes or it counts as dead.

        `wait` is for how many seconds a holder that lives is waited for; LeaseHeldError after
        that. `dead_after` (seconds) is how long a beat stands still before its holder counts as
        dead; by default `BEATS` of the longer of both intervals, and at least `NETWORK_SECONDS`
        on a network file system. `info` is added to what the lease says about its holder.
        """
        folder = make_folder(store.path / "lease")
        body = {**_myself(), "suite": suite, "beat_seconds": beat_seconds, **(info or {})}
        give_up = time.monotonic() + wait
        while True:
            number = _highest(folder, suite)
            if number:
                _wait_until_free(folder, suite, number, beat_seconds, dead_after, give_up)
            path = folder / f"{suite}.{number + 1}.json"
            if create_exclusive(path, json.dumps(body, default=str).encode()):
                return Lease(path, beat_seconds)

    @property
    def lost(self) -> bool:
        """Whether another process took the lease over, or its file is gone. It stays so."""
        if not self._lost and not self._released.is_set():
            self._lost = _is_there(self._next) is True or _is_there(self.path) is False
        return self._lost

    def release(self) -> None:
        """Leave the lease, so that the next process need not wait; nothing where it is lost."""
        if self._released.is_set():
            return
        lost = self.lost
        self._released.set()
        self._thread.join()
        if not lost:
            self._write_beat(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _keep(self) -> None:
        count = 0
        while not self._released.wait(self._beat_seconds) and not self.lost:
            count += 1
            self._write_beat(count)

    def _write_beat(self, count: int | None) -> None:
        """Replace the beat. None releases. A full disk is no reason to stop: the next may succeed."""
        beat = self.path.with_suffix(".beat")
        temporary = beat.with_name(f".{beat.name}.{secrets.token_hex(6)}")
        try:
            temporary.write_text(_RELEASED if count is None else str(count))
            temporary.replace(beat)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def split_name(name: str) -> tuple[str, int] | None:
    """Suite and number that the file of a lease is named by; None for any other file."""
    named = _NAMED.fullmatch(name)
    return (named[1], int(named[2])) if named else None


def _highest(folder: Path, suite: str) -> int:
    try:
        named = [split_name(path.name) for path in folder.glob("*.json")]
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read ({error.strerror})") from error
    return max((each[1] for each in named if each and each[0] == suite), default=0)


def _wait_until_free(
    folder: Path,
    suite: str,
    number: int,
    beat_seconds: float,
    dead_after: float | None,
    give_up: float,
) -> None:
    """Return when the lease was released, or its holder died; LeaseHeldError when time is up."""
    path = folder / f"{suite}.{number}.json"
    owner = _owner(path)
    if dead_after is None:
        interval = max(beat_seconds, _seconds(owner.get("beat_seconds")))
        dead_after = max(BEATS * interval, NETWORK_SECONDS if on_network(folder) else 0.0)
    pause = min(0.1, beat_seconds / 4)
    seen, still, alive = _beat(path), 0.0, False
    while seen != _RELEASED and not _is_gone(owner):
        if still >= dead_after:
            return
        if alive and time.monotonic() >= give_up:
            raise LeaseHeldError(path, owner)
        before = time.monotonic()
        time.sleep(pause)
        # A much longer pause than asked for means that this process stood still, not the other.
        still += min(time.monotonic() - before, 2 * pause)
        beat = _beat(path)
        if beat != seen:
            seen, still, alive = beat, 0.0, True


def _beat(path: Path) -> str:
    """What the beat holds now; nothing where it cannot be read."""
    try:
        return path.with_suffix(".beat").read_text()
    except (OSError, ValueError):
        return ""


def _owner(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _is_there(path: Path) -> bool | None:
    """None where the file system does not say."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def _myself() -> dict[str, Any]:
    """What a lease says about its holder."""
    return {
        **_machine(),
        "pid": os.getpid(),
        "start_ticks": _start_ticks(os.getpid()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }


def _machine() -> dict[str, Any]:
    """Where process numbers mean the same: host, boot and the namespace of process numbers."""
    boot = namespace = None
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return {"hostname": socket.gethostname(), "boot_id": boot, "pid_namespace": namespace}


def _is_gone(owner: Mapping[str, Any]) -> bool:
    """Whether the holder ran on this machine and its process has ended."""
    here = _machine()
    if None in here.values() or any(owner.get(name) != value for name, value in here.items()):
        return False
    pid, ticks = owner.get("pid"), owner.get("start_ticks")
    return isinstance(pid, int) and isinstance(ticks, int) and _start_ticks(pid) != ticks


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where it has ended or is unknown."""
    try:
        # The name, in parentheses, may hold anything; state is the first field after it.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def on_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether the path lies on a file system that other machines write to, as far as is known."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    real = path.resolve()
    kinds = {}
    for line in lines:
        _, where, kind, *_ = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), where))
        if point == real or point in real.parents:
            # A later mount at the same place hides an earlier one.
            kinds[point] = kind
    kind = kinds[max(kinds, key=lambda point: len(point.parts))] if kinds else ""
    return kind in _NETWORK or kind.startswith(_PERHAPS_NETWORK)
