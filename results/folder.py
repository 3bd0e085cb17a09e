"""Opening a store's folder: what makes it a store, and what is said where it is none."""

from __future__ import annotations

import json
import os

from results.bucket import BucketPath, reach
from results.errors import StoreError
from results.files import create_exclusive
from results.place import Place, place_of

FORMAT = 1
"""Of the folder's layout. A newer one is refused; tables have a version of their own."""

MARKER = "store.json"
FOLDERS = (
    "claims",
    "attempts",
    "epochs",
    "plans",
    "decisions",
    "models",
    "predictions",
    "checkpoints",
    "lease",
    "logs",
)
_KEY = "peftgrid_store"


def open_folder(
    path: str | os.PathLike[str] | Place, create: bool, *, foreign: bool = False
) -> Place:
    """The store's absolute path. With `create` it is made where missing and must take files.

    `foreign` lets it be made among other files, which are known to be a store's. Raises StoreError,
    of which UnreachableError where a bucket does not answer.
    """
    folder = place_of(path).absolute()
    if isinstance(folder, BucketPath):
        reach(folder)
    elif folder.exists() and not folder.is_dir():
        raise StoreError(f"store: {folder} given, which is a file; allowed: a folder")
    if create:
        _make(folder, foreign)
    try:
        held = json.loads((folder / MARKER).read_bytes())
    except FileNotFoundError:
        state = "which is not a peftgrid store" if folder.exists() else "which does not exist"
        raise StoreError(
            f"store: {folder} given, {state}; `peftgrid run SUITE --store {folder}` makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / MARKER}: cannot be read ({error})") from error
    number = held.get(_KEY) if isinstance(held, dict) else None
    if not isinstance(number, int) or number > FORMAT:
        raise StoreError(
            f"{folder / MARKER}: store format {number} given, allowed: up to {FORMAT}; "
            "a newer peftgrid reads it"
        )
    return folder


def is_free(place: Place) -> bool:
    """Whether nothing is there yet, so that it may become a store. Raises UnreachableError."""
    if isinstance(place, BucketPath):
        reach(place)
    return not place.exists() or (place.is_dir() and not any(place.iterdir()))


def _make(folder: Place, foreign: bool) -> None:
    marker = folder / MARKER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Dot files may be another process that is making the same store at this moment.
        held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise StoreError(
            f"store: {folder} given, which cannot be made ({error.strerror}); "
            "allowed: a folder that can be written to"
        ) from error
    if held and not marker.exists() and not foreign:
        raise StoreError(
            f"store: {folder} given, which holds other files ({held[0]}, ...); "
            "allowed: a store, an empty folder or a new one"
        )
    try:
        # Also where the marker is there: the attempt shows whether the folder takes files.
        create_exclusive(marker, json.dumps({_KEY: FORMAT}).encode())
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"store: {folder} given, which is not writable; allowed: a folder that is ({error})"
        ) from error
