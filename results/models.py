"""Models of a store: what a run trained, one safetensors file named by the row of its attempt.

models/<run_id>.<n>.<random>.safetensors
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from results.errors import StoreError
from results.files import create_named, read_named
from results.store import Store


def save_model(store: Store, run_id: str, attempt: int, data: bytes) -> dict[str, Any]:
    """Write a model before its attempt is committed; the columns by which the row names it."""
    name, digest = create_named(store.path, "models", run_id, attempt, data)
    return {"model_bytes": len(data), "model_file": name, "model_digest": digest}


def model_of(store: Store, row: Mapping[str, Any]) -> Path:
    """The file of the model that a row of `runs` names.

    Raises StoreError where the row names none, or the file is not what was committed.
    """
    if row["model_file"] is None:
        raise StoreError(
            f"run {row['run_id']} ({row['status']}) has no model, allowed: a finished run of a "
            "suite whose `store: {models: ...}` kept it (`final` up to 16 MB, `all` any size)"
        )
    path = store.path / "models" / PurePosixPath(row["model_file"]).name
    read_named(path, row["model_digest"])
    return path
