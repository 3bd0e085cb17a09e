"""Where converted weights and measured sizes are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def cache_dir() -> Path:
    """The folder that PEFTGRID_CACHE names, else ~/.cache/peftgrid. It may not exist yet."""
    given = os.environ.get("PEFTGRID_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "peftgrid"


def replace_atomically(path: Path, data: bytes) -> None:
    """Write a file that others see complete or not at all; the last of several writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
