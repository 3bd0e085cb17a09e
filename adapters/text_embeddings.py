"""Where a head of text embeddings comes from (`adapters.text_head`), known before there is the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from adapters.data._root import data_root
from adapters.recipe_checks import at_least


@dataclass(frozen=True, kw_only=True)
class TextHeadConfig:
    """Where the head comes from."""

    file: str
    """A safetensors file below the data root."""
    digest: str
    """SHA-256 (hex) of the file."""
    dim: int
    """D, the width of the text embeddings: known before there is the file."""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"file: {self.file!r} given, allowed: a file below the data root")
        if len(self.digest) != 64 or set(self.digest) - set("0123456789abcdef"):
            raise ValueError(f"digest: {self.digest!r} given, allowed: 64 hexadecimal digits")
        at_least(1, dim=self.dim)

    def count(self, classes: int, width: int) -> int:
        """Parameters of the head for `classes`, on a ViT of `width`."""
        return self.dim * width + classes * (self.dim + 1)


def missing(file: str) -> str | None:
    """None where the file is below the data root, else what to do."""
    path = data_root() / file
    return None if path.is_file() else f"put it at {path}; `peftgrid text-head` makes such files"
