"""One driver per suite and store: a lease that its holder renews and a dead holder loses.

    lease/<suite>.<n>.json   the n-th holder, made by exclusive create
    lease/<suite>.<n>.beat   a counter that the holder replaces every few seconds, with how far it is
    lease/<suite>.<n>.stop   somebody asks the holder to stop; .stop-now, .stop-<run_id> likewise
    lease/<suite>.<n>.done   the holder has ended

No wall clock is compared: who wants the lease watches the counter on its own clock. A holder on the
same machine whose process is gone is dead at once. A lease saves work; that a run has one row follows
from the exclusive create of attempts alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from results.errors import StoreError
from results.files import create_exclusive, replace
from results.place import Place
from results.process import start_time
from results.store import Store

BEAT_SECONDS = 2.0
STOP, STOP_NOW, STOP_RUN = "stop", "stop-now", "stop-"
"""What a holder may be asked; the last one is followed by a run_id."""
DEAD_BEATS = 6
"""Beats without a change after which a holder is dead."""
NFS_SECONDS = 120.0
"""The least time on NFS, whose cache of attributes hides a change."""
BUCKET_SECONDS = 60.0
"""The least time in a bucket, whose answers may be late by several tries."""


class LeaseHeldError(StoreError):
    """Another driver has the suite; `owner` says which."""

    def __init__(self, name: str, owner: Mapping[str, Any]) -> None:
        self.name, self.owner = name, dict(owner)
        who = f"process {owner.get('pid')} on {owner.get('hostname')}"
        super().__init__(
            f"another driver has this suite: {who} ({owner.get('command')}), lease {name}. Watch it "
            "with `peftgrid status`; when it ends, or dies, the same command goes on"
        )


class Observer:
    """Tells whether the holder of a lease lives, by watching it. `name` is `<suite>.<n>`."""

    def __init__(self, store: Store, name: str, *, beat_seconds: float = BEAT_SECONDS) -> None:
        self._folder, self._name = store.path / "lease", name
        self._limit = DEAD_BEATS * beat_seconds
        if not isinstance(store.path, Path):
            self._limit = max(self._limit, BUCKET_SECONDS)
        elif _is_nfs(store.path):
            self._limit = max(self._limit, NFS_SECONDS)
        self._beat: str | None = None
        self._since = time.monotonic()

    @property
    def owner(self) -> dict[str, Any]:
        """What the holder wrote when it took the lease; empty where that cannot be read."""
        try:
            found = json.loads((self._folder / f"{self._name}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def told(self) -> dict[str, Any]:
        """How far the holder said that it is, with its last beat; empty before the first."""
        try:
            found = json.loads(self._read() or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}  # older holders wrote a number

    def ask(self, what: str) -> None:
        """Ask the holder to stop: `STOP`, `STOP_NOW`, or `STOP_RUN` and a run_id. Twice is once."""
        create_exclusive(self._folder / f"{self._name}.{what}", b"")

    def alive(self) -> bool:
        """Whether the holder has not ended and was not silent for the limit since it is watched."""
        if (self._folder / f"{self._name}.done").exists() or self._gone():
            return False
        beat, now = self._read(), time.monotonic()
        if beat != self._beat:
            self._beat, self._since = beat, now
        return now - self._since < self._limit

    def wait(self) -> bool:
        """Watch until it is sure: True at the first change of the counter, False where it is dead."""
        first = self._read()
        while self.alive():
            if self._read() != first:
                return True
            time.sleep(0.1)
        return False

    def _read(self) -> str | None:
        try:
            return (self._folder / f"{self._name}.beat").read_bytes().decode()
        except OSError:
            return None

    def _gone(self) -> bool:
        """Whether the holder was a process of this machine that is there no more."""
        owner = self.owner
        if not owner or owner.get("machine") != _machine():
            return not owner
        started = start_time(int(owner["pid"]))
        return started is None or started != owner["started"]


class Lease:
    """A held lease; beats until it is released. Make it with `Lease.take`."""

    def __init__(self, store: Store, suite: str, number: int, beat_seconds: float) -> None:
        self.name = f"{suite}.{number}"
        self._folder, self._suite, self._number = store.path / "lease", suite, number
        self._seconds = beat_seconds
        self._ended = threading.Event()
        self._lost = False
        self._progress: Mapping[str, Any] = {}
        self._asked: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._beat, name=f"lease {self.name}", daemon=True)
        self._thread.start()

    @staticmethod
    def take(
        store: Store, suite: str, *, info: Mapping[str, Any], beat_seconds: float = BEAT_SECONDS
    ) -> Lease:
        """Hold the suite. Raises LeaseHeldError where a living driver does.

        Takes as long as it needs to see the other's counter change, or not change.
        """
        folder = store.path / "lease"
        folder.mkdir(exist_ok=True)
        while True:
            number = _highest(folder, suite)
            if number:
                observer = Observer(store, f"{suite}.{number}", beat_seconds=beat_seconds)
                if observer.wait():
                    raise LeaseHeldError(f"{suite}.{number}", observer.owner)
            owner = {
                **info,
                "hostname": socket.gethostname(),
                "pid": os.getpid(),
                "started": start_time(os.getpid()),
                "machine": _machine(),
            }
            path = folder / f"{suite}.{number + 1}.json"
            if create_exclusive(path, json.dumps(owner).encode()):
                return Lease(store, suite, number + 1, beat_seconds)

    @property
    def lost(self) -> bool:
        """Whether another driver has taken over meanwhile."""
        return self._lost

    @property
    def asked(self) -> frozenset[str]:
        """What the holder was asked so far; see `Observer.ask`."""
        return self._asked

    def say(self, progress: Mapping[str, Any]) -> None:
        """Tell whoever watches how far the holder is, in what JSON has; with the next beat."""
        self._progress = progress

    def release(self) -> None:
        """End it, so that the next driver need not watch."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(StoreError):  # the next one then waits until it is sure
            create_exclusive(self._folder / f"{self.name}.done", b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            # A full disk must not end the thread: the beat is tried again the next time.
            with contextlib.suppress(OSError):
                said = json.dumps({"beat": count, **self._progress})
                replace(self._folder / f"{self.name}.beat", said.encode())
                self._lost = _highest(self._folder, self._suite) > self._number
                asked = self._folder.glob(f"{self.name}.{STOP}*")
                self._asked = frozenset(path.name.rpartition(".")[2] for path in asked)
            if self._ended.wait(self._seconds):
                return


def newest(store: Store, suite: str) -> Observer | None:
    """The driver that took the suite last, dead or alive; None where none ever did."""
    folder = store.path / "lease"
    number = _highest(folder, suite) if folder.is_dir() else 0
    return Observer(store, f"{suite}.{number}") if number else None


def split_name(name: str) -> tuple[str, int] | None:
    """The suite and the number of the holder that a file of `lease` belongs to."""
    parts = name.split(".")
    return (parts[0], int(parts[1])) if len(parts) == 3 and parts[1].isdecimal() else None


def _highest(folder: Place, suite: str) -> int:
    holders = (split_name(path.name) for path in folder.glob("*.json"))
    return max((held[1] for held in holders if held and held[0] == suite), default=0)


def _machine() -> str:
    """The machine, its boot and its process numbers, where the system tells; else a chance."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a file of ours
    except OSError:
        return secrets.token_hex(8)


def _is_nfs(path: Path) -> bool:
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    over = [m for m in mounts if path.is_relative_to(m[1].replace("\\040", " "))]
    return bool(over) and max(over, key=lambda m: len(m[1]))[2].startswith("nfs")
