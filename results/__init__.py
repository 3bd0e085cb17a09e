"""What came out: typed Parquet tables of every attempt, SQL over them, selection, statistics, leaderboards.

`results.open("runs")` opens a store for reading, of which `runs()` is an Arrow table with a row
per run, `runs_frame()` the same for pandas, and `relation("runs")` the same for DuckDB, which
reads only the columns in use. This room never loads torch or ray, and importing it loads neither
pyarrow nor duckdb until something is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.store import Store


def open(path: str | os.PathLike[str]) -> Store:  # noqa: A001 - `results.open(path)` reads as it should
    """The store in folder `path`; StoreError says what is wrong where there is none."""
    from results.store import Store

    return Store.open(path)
