"""Images at the size that a network gets, decoded once per node and shared by all runs and jobs.

    <cache>/decoded/<key>.u8      uint8 (N, 3, S, S), mapped into memory

The key is a hash of what the images are and of what is done to them. One process makes a file, under a
lock; the others wait for it. It appears under its name when it is complete, and one of another length is
made anew. What was not used for longest goes where the room is needed. Small sets that are in memory
already are kept there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.backbones._cache import cache_dir
from adapters.data import _room
from adapters.data._progress import tick
from adapters.data._resize import resized
from adapters.data.contract import Encoded, Part
from adapters.preprocess import Resize

_IN_MEMORY = 64 * 2**20
"""Bytes up to which a set that is not encoded stays in memory."""
_BATCH = 256
VERSION = 1
"""Of what decoding gives; raised when it changes."""


def decoded(part: Part, size: int, mode: str, resize: Resize) -> Tensor:
    """uint8 (N, 3, size, size) on the CPU.

    Raises ValueError naming an image that cannot be decoded, or for want of room, OSError where one
    cannot be read or the cache cannot be written.
    """
    shape = len(part), 3, size, size
    if not isinstance(part, Encoded) and int(np.prod(shape)) <= _IN_MEMORY:
        return torch.cat(list(_pieces(part, size, mode, resize)))
    path = cache_dir() / "decoded" / f"{_key(part, size, mode, resize)}.u8"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        _wait_for(lock.fileno())
        while True:
            # Another process may need the room, and remove it between any two of these lines.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == int(np.prod(shape)):
                    _room.used(path)
                    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", shape=shape))
            _make(path, int(np.prod(shape)), _pieces(part, size, mode, resize))


def _key(part: Part, size: int, mode: str, resize: Resize) -> str:
    """Of the images, their order and what is done to them."""
    hashed = hashlib.sha256(f"{VERSION} {size} {mode} {resize}".encode())
    hashed.update(part.content())
    if isinstance(part, Encoded):  # whose content is sorted
        hashed.update("\0".join(part.names).encode())
    return hashed.hexdigest()[:32]


def decode(name: str, data: bytes) -> NDArray[np.uint8]:
    """The RGB pixels (H, W, 3) of an image file; ValueError naming it where it is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels: NDArray[np.uint8] = np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {len(data)} bytes that are no whole image ({error})") from error
    return pixels


def _pieces(part: Part, size: int, mode: str, resize: Resize) -> Iterator[Tensor]:
    if isinstance(part, Encoded):
        for name in part.names:
            tick()
            image_HW3 = decode(name, part.read(name))
            yield resized(_first(image_HW3[None]), size, mode, resize)
        return
    for start in range(0, len(part), _BATCH):
        tick()
        yield resized(_first(part.pixels[start : start + _BATCH]), size, mode, resize)


def _first(pixels_NHW3: NDArray[np.uint8]) -> Tensor:
    """Channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels_NHW3)).permute(0, 3, 1, 2)


def _wait_for(lock: int) -> None:
    """Take the lock; whoever has it makes the file, which is progress for those who wait, too."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tick()
            time.sleep(0.2)
        else:
            return


def _make(path: Path, size: int, pieces: Iterator[Tensor]) -> None:
    aside = path.with_suffix(".tmp")  # the lock's holder alone writes it
    _room.reserve(aside, size)
    try:
        with aside.open("r+b") as file:
            for piece in pieces:
                file.write(piece.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
