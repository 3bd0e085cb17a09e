"""Models of a store: what a run trained, one safetensors file named by the row of its attempt.

models/<run_id>.<n>.<random>.safetensors
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from results.errors import StoreError
from results.files import create_named, read_named
from results.place import Place
from results.store import Store


def save_model(store: Store, run_id: str, attempt: int, data: bytes) -> dict[str, Any]:
    """Write a model before its attempt is committed; the columns by which the row names it."""
    name, digest = create_named(store.path, "models", run_id, attempt, data)
    return {"model_bytes": len(data), "model_file": name, "model_digest": digest}


def check_model(store: Store, row: Mapping[str, Any]) -> None:
    """StoreError where a row of `runs` names no model, or the file is not what was committed."""
    read_named(_place(store, row), row["model_digest"])


@contextlib.contextmanager
def model_of(store: Store, row: Mapping[str, Any]) -> Iterator[Path]:
    """The file of the model that a row of `runs` names; of a bucket a copy, for this context.

    Raises StoreError where the row names none, or the file is not what was committed.
    """
    place = _place(store, row)
    data = read_named(place, row["model_digest"])
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="peftgrid-model-") as folder:
        copy = Path(folder) / place.name
        copy.write_bytes(data)
        yield copy


def _place(store: Store, row: Mapping[str, Any]) -> Place:
    if row["model_file"] is None:
        raise StoreError(
            f"run {row['run_id']} ({row['status']}) has no model, allowed: a finished run of a "
            "suite whose `store: {models: ...}` kept it (`final` up to 16 MB, `all` any size)"
        )
    return store.path / "models" / PurePosixPath(row["model_file"]).name
