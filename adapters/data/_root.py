"""Where data sets lie that are not shipped with this package."""

from __future__ import annotations

import os
from pathlib import Path


def data_root() -> Path:
    """The folder that PEFTGRID_DATA names, else ~/.cache/peftgrid/data. It may not exist yet."""
    given = os.environ.get("PEFTGRID_DATA")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "peftgrid" / "data"
