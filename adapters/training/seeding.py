"""Seeds that say what they depend on.

Everything random in a run draws from a generator of its own, derived from the run's seed and the
purpose's name. So the head starts the same and batches come in the same order for every method, and
drawing more numbers for one purpose changes no other.
"""

from __future__ import annotations

import hashlib
import random

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for `purpose`, a pure function of its arguments."""
    text = "|".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for `purpose`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def plain(seed: int, *purpose: str | int) -> random.Random:
    """A generator of plain numbers for `purpose`: cheap enough to make one for every image."""
    return random.Random(derive(seed, *purpose))  # noqa: S311 - no secret is made with it
