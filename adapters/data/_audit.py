"""Looking at every image of a data set: what a run would meet, and what no run would notice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters import registry
from adapters.data._decoded import decode
from adapters.data._progress import tick
from adapters.data.contract import Encoded, Part, Splits


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found in the sets that a config of a data set asks for."""

    classes: int
    sizes: dict[str, int]
    """Images of train, val and test."""
    per_class: dict[str, tuple[int, int]]
    """The fewest and the most images of any class, in each set."""
    digest: str
    declared: str | None
    unreadable: dict[str, str]
    """Images that are none, with the reason."""
    leaked: dict[str, str]
    """Test images whose content is also a train or validation image, with the name of that."""

    @property
    def problems(self) -> list[str]:
        """What makes runs fail, or their numbers wrong, in words."""
        found = [f"unreadable: {reason}" for reason in self.unreadable.values()]
        found += [f"test image {name} is also {other}" for name, other in self.leaked.items()]
        if self.declared not in (None, self.digest):
            found.append(f"digest: {self.digest} found, declared is {self.declared}")
        return found


def audit(name: str, config: Any) -> Audit:
    """Read and decode everything; ValueError or OSError where the sets cannot be made at all."""
    splits = registry.dataset(name).load(config)
    unreadable: dict[str, str] = {}
    contents: dict[str, str] = {}
    leaked: dict[str, str] = {}
    for kind, part in _parts(splits):
        for label, content in _looked_at(kind, part, unreadable):
            if kind != "test":
                contents.setdefault(content, f"{kind} image {label}")
            elif content in contents:
                leaked[label] = contents[content]
    return Audit(
        classes=splits.classes,
        sizes={kind: len(part) for kind, part in _parts(splits)},
        per_class={kind: _spread(part, splits.classes) for kind, part in _parts(splits)},
        digest=splits.source_digest,
        declared=registry.declared_digest(name, config),
        unreadable=unreadable,
        leaked=leaked,
    )


def members(splits: Splits) -> dict[str, list[str]]:
    """The names of the images of each set, where they have names; empty lists where they have none."""
    return {
        kind: list(part.names) if isinstance(part, Encoded) else [] for kind, part in _parts(splits)
    }


def _parts(splits: Splits) -> tuple[tuple[str, Part], ...]:
    return ("train", splits.train), ("val", splits.val), ("test", splits.test)


def _looked_at(kind: str, part: Part, unreadable: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each image's name, or place in its set, and the SHA-256 of its content."""
    for place in range(len(part)):
        tick()
        if not isinstance(part, Encoded):
            yield f"{kind}[{place}]", hashlib.sha256(part.pixels[place].tobytes()).hexdigest()
            continue
        name = part.names[place]
        try:
            data = part.read(name)
            decode(name, data)
        except (ValueError, OSError) as error:
            unreadable[name] = str(error)
            continue
        yield name, hashlib.sha256(data).hexdigest()


def _spread(part: Part, classes: int) -> tuple[int, int]:
    counts = np.bincount(part.labels, minlength=classes)
    return int(counts.min()), int(counts.max())
