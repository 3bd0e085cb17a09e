"""Tensors on disk: the digest that names a set of them, and the checkpoints of an unfinished run.

    <attempt>.<counter>.safetensors    the tensors of one snapshot
    <attempt>.<counter>.json           its positions and numbers, the digest of the tensors and its own

The JSON is written last, so a checkpoint is whole when it has one. No byte of it is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors.torch import load
from torch import Tensor

from adapters.spec import at_least
from adapters.training.snapshot import Snapshot

FORMAT = 1
"""Of the JSON of a checkpoint."""
KEPT = 2
"""Checkpoints of a run, where none is damaged."""

_FILE = re.compile(r"\.?(\d+)\.(\d+)\.(?:safetensors|json)(?:\.part)?")
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Place(Protocol):
    """Where checkpoints lie: a `pathlib.Path`, or what does the same for files that are elsewhere.

    Elsewhere `write_bytes` puts a file whole and durably, or not at all.
    """

    @property
    def name(self) -> str:
        """The last part."""

    def __truediv__(self, name: str, /) -> Self: ...
    def exists(self) -> bool:
        """Whether it is there."""

    def iterdir(self) -> Iterator[Self]:
        """What is directly below."""

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the folder, where there are any."""

    def read_bytes(self) -> bytes:
        """The file; OSError where there is none."""

    def write_bytes(self, data: bytes, /) -> int:
        """Put the file."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes, in the order of the names."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        h.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        h.update(_bytes(tensor))
    return h.hexdigest()


class CheckpointFolder:
    """The checkpoints of one run in a folder of its own: a Keeper for `run_trial`.

    `attempt` numbers this attempt at the run, above every earlier one. What was kept under another
    `spec_hash` or other `semantics` (JSON values; versions that may change numbers belong in it) is
    not used.
    """

    def __init__(
        self,
        path: Place,
        *,
        spec_hash: str,
        semantics: Mapping[str, Any],
        attempt: int,
        every_epochs: int = 1,
    ) -> None:
        at_least(1, every_epochs=every_epochs)
        self.path = path
        self.every_epochs = every_epochs
        self.reasons: list[str] = []
        """Why the last `load` passed over checkpoints, newest first, one sentence each."""
        self._belongs = {"spec_hash": spec_hash, "semantics": dict(semantics)}
        self._attempt = attempt
        self._unusable: set[tuple[int, int]] = set()

    def load(self) -> Snapshot | None:
        """The newest checkpoint that is whole and of this run; None where there is none."""
        self.reasons, self._unusable = [], set()
        for key in sorted(self._files(), reverse=True):
            try:
                return self._read(key)
            except (OSError, ValueError) as error:
                self.reasons.append(f"checkpoint {key[0]}.{key[1]} was not used: {error}")
                self._unusable.add(key)
        return None

    def save(self, snapshot: Snapshot) -> None:
        """Write `snapshot` beside the others; then delete all but the newest `KEPT` usable ones.

        Raises OSError where it cannot be written; the others are as they were.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        used = (counter for attempt, counter in self._files() if attempt == self._attempt)
        key = self._attempt, 1 + max(used, default=0)
        tensors_path, json_path = self._paths(key)
        try:
            written = _write(tensors_path, _safetensors(snapshot.tensors))
            record = {
                "format": FORMAT,
                **self._belongs,
                "epoch": snapshot.epoch,
                "step": snapshot.step,
                "state": snapshot.state,
                "digest": written,
            }
            record["self"] = _self_digest(record)
            _write(json_path, [_canonical(record)])
        except BaseException:
            json_path.unlink(missing_ok=True)
            tensors_path.unlink(missing_ok=True)
            raise
        self._prune()

    def clear(self) -> None:
        """Delete the folder: the run is committed."""
        if isinstance(self.path, Path):
            shutil.rmtree(self.path, ignore_errors=not self.path.exists())
        else:
            for path in self.path.iterdir():
                path.unlink(missing_ok=True)

    def _read(self, key: tuple[int, int]) -> Snapshot:
        tensors_path, json_path = self._paths(key)
        if not json_path.exists():
            raise ValueError("it has no JSON, which is written last")
        record = json.loads(json_path.read_bytes())
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            given = record.get("format") if isinstance(record, dict) else record
            raise ValueError(f"format: {given!r} given, allowed: {FORMAT}")
        if record.pop("self", None) != _self_digest(record):
            raise ValueError("its JSON has not the digest that it states")
        for name, ours in self._belongs.items():
            if record[name] != ours:
                raise ValueError(f"{name}: {record[name]!r} given, allowed: {ours!r}")
        if not tensors_path.exists():
            raise ValueError("it has no tensors")
        data = tensors_path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != record["digest"]:
            raise ValueError(f"its tensors have digest {found}, its JSON states {record['digest']}")
        return Snapshot(
            epoch=record["epoch"], step=record["step"], tensors=load(data), state=record["state"]
        )

    def _prune(self) -> None:
        """Delete what is older than the newest whole checkpoint, the last `KEPT` usable ones excepted."""
        files = self._files()
        whole = [k for k in sorted(files) if all(p in files[k] for p in self._paths(k))]
        kept = [key for key in whole if key not in self._unusable][-KEPT:]
        for key in sorted(files):
            if key < whole[-1] and key not in kept:
                # The JSON first: without it nothing is a checkpoint.
                for path in sorted(files[key], key=lambda place: place.name):
                    path.unlink(missing_ok=True)

    def _paths(self, key: tuple[int, int]) -> tuple[Place, Place]:
        stem = f"{key[0]}.{key[1]}"
        return self.path / f"{stem}.safetensors", self.path / f"{stem}.json"

    def _files(self) -> dict[tuple[int, int], set[Place]]:
        """Everything in the folder that is or was to be part of a checkpoint."""
        files: dict[tuple[int, int], set[Place]] = {}
        for path in self.path.iterdir() if self.path.exists() else ():
            if found := _FILE.fullmatch(path.name):
                files.setdefault((int(found[1]), int(found[2])), set()).add(path)
        return files


def _write(path: Place, chunks: Iterable[bytes | memoryview]) -> str:
    """Make `path` of `chunks`, whole and durable or not at all; the SHA-256 of its bytes."""
    h = hashlib.sha256()
    if not isinstance(path, Path):
        data = b"".join(chunks)
        h.update(data)
        path.write_bytes(data)
        return h.hexdigest()
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                h.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return h.hexdigest()


def _safetensors(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """A safetensors file piece by piece: the library's writer holds a second copy of all tensors.

    Wide dtypes come first, so that each tensor begins at a multiple of its element's size.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield _bytes(tensors[name])


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def _self_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(record)).hexdigest()
