"""What results cost to read at scale: 100,000 runs of 20 epochs, and 5,000 files not compacted.

Beside each figure stands what a plain tool takes for the same answer in the same round: DuckDB on
one Parquet file, or pandas on JSON lines. Every reading opens the store anew, so digests are
checked each time; caches of the file system are warm. Figures are medians of `ROUNDS`, and a bar is
missed where all of them miss it. Starts of processes are left out but where the name says so;
compactions are measured once.

`python -m tests.bench.store` measures this alone, in about two minutes and 3 GB of memory.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.cli import look
from results.query import query
from results.store import Store
from results.table import leaderboard
from tests.bench import report, stores

RUNS, EPOCHS, FILES, ROUNDS = 100_000, 20, 5_000, 5
GIGABYTE = 1e9

COLUMNS = "run_id, variant, dataset, seed, test_top1"
TOP = f"""
SELECT {COLUMNS} FROM runs WHERE status = 'succeeded' AND dataset = 'dataset3'
ORDER BY test_top1 DESC, run_id LIMIT 20
"""
BOARD = """
SELECT variant, dataset, count(*) AS n, avg(test_top1) AS mean, stddev(test_top1) AS std,
       median(epoch_seconds) AS epoch_seconds
FROM runs WHERE status = 'succeeded' GROUP BY ALL ORDER BY mean DESC
"""
ALL = f"SELECT {COLUMNS} FROM runs"

COLD = """
import sys
from results.query import query
from results.store import Store
assert len(query(Store.open(sys.argv[1]), sys.argv[2])) == 20
"""
COLD_DUCKDB = """
import sys
import duckdb
with duckdb.connect() as connection:
    connection.execute(f"CREATE VIEW runs AS FROM read_parquet('{sys.argv[1]}')")
    assert len(connection.sql(sys.argv[2]).fetchall()) == 20
"""


def results_at_scale() -> list[dict[str, Any]]:
    """Rows for the table of `make bench`."""
    # Arrow's own allocator gives pages back between rounds. No program that makes one leaderboard has
    # to get them again, which takes half a second on a virtual machine.
    pa.set_memory_pool(pa.system_memory_pool())
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        return _measured(Path(folder))


def _measured(folder: Path) -> list[dict[str, Any]]:
    large, many = folder / "large", folder / "many"
    stores.compacted(large, RUNS, EPOCHS)
    size = sum(path.stat().st_size for path in large.rglob("*") if path.is_file())
    stores.add_files(Store.open(many, create=True), FILES, EPOCHS, seed=1)
    runs = Store.open(large).runs()
    one, few, lines = folder / "runs.parquet", folder / "files.parquet", folder / "runs.jsonl"
    pq.write_table(runs, one)
    pq.write_table(Store.open(many).runs(), few)
    used = ["run_id", "variant", "dataset", "seed", "test_top1", "status", "epoch_seconds"]
    runs.select(used).to_pandas().to_json(lines, orient="records", lines=True)
    del runs

    def cold(code: str, path: Path) -> None:
        subprocess.run([sys.executable, "-c", code, str(path), TOP], check=True)

    def status() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            look.status(None, large, as_json=True)

    ours, plain, frames = (
        "ours",
        "DuckDB on one Parquet file",
        "pandas on JSON lines of the columns",
    )
    figures: dict[str, tuple[float | None, dict[str, Callable[[], object]]]] = {
        "top 20 of 100,000 runs": (
            1.0,
            {
                ours: lambda: query(Store.open(large), TOP),
                plain: lambda: _duckdb(one, TOP),
                frames: lambda: _pandas_top(lines),
            },
        ),
        "groups over 100,000 runs": (
            1.0,
            {
                ours: lambda: query(Store.open(large), BOARD),
                plain: lambda: _duckdb(one, BOARD),
                frames: lambda: _pandas_board(lines),
            },
        ),
        "top 20 of 100,000 runs, with the start of a process": (
            3.0,
            {
                ours: lambda: cold(COLD, large),
                plain: lambda: cold(COLD_DUCKDB, one),
            },
        ),
        "status of 100,000 runs": (1.0, {ours: status}),
        "states of 100,000 runs": (1.0, {ours: lambda: Store.open(large).states()}),
        "leaderboard of 100,000 runs": (
            1.0,
            {ours: lambda: leaderboard(Store.open(large)), plain: lambda: _duckdb(one, BOARD)},
        ),
        "five columns of 5,000 runs in 5,000 files": (
            2.0,
            {ours: lambda: query(Store.open(many), ALL), plain: lambda: _duckdb(few, ALL)},
        ),
    }
    seconds = _interleaved({name: ways for name, (_, ways) in figures.items()})
    rows = [_row("store of 100,000 runs x 20 epochs", "GB", size / GIGABYTE, bar=1.0)]
    for name, (bar, ways) in figures.items():
        taken = {way: statistics.median(seconds[name, way]) for way in ways}
        others = [way for way in ways if way != ours] or [None]
        for nth, other in enumerate(others):
            limit = bar if nth == 0 else None
            row = _row(name, "s", taken[ours], other, taken.get(other), bar=limit)
            rows.append({**row, "low": min(seconds[name, ours])})
    return rows + _compactions(many, large)


def _interleaved(
    figures: dict[str, dict[str, Callable[[], object]]],
) -> dict[tuple[str, str], list[float]]:
    """Seconds of every way to every figure; each round takes each once, after one that is not kept."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for ways in figures.values():
        for way in ways.values():
            way()
    for _ in range(ROUNDS):
        for name, ways in figures.items():
            for called, way in ways.items():
                began = time.perf_counter()
                way()
                seconds.setdefault((name, called), []).append(time.perf_counter() - began)
    return seconds


def _compactions(many: Path, large: Path) -> list[dict[str, Any]]:
    """Seconds of the first generation of many files, and of one that adds a few to a large one."""
    rows = []
    stores.add_files(Store.open(large), 256, EPOCHS, seed=2)
    for name, path in (("5,000 files", many), ("256 files into 100,000 runs", large)):
        store = Store.open(path)
        began = time.perf_counter()
        assert store.compact() is not None
        rows.append(_row(f"compacting {name}", "s", time.perf_counter() - began))
        assert store.bad_files == []
    return rows


def _row(
    name: str,
    unit: str,
    ours: float,
    reference_name: str | None = None,
    reference: float | None = None,
    bar: float | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "reference_name": reference_name,
        "bar": bar,
    }


def _duckdb(path: Path, sql: str) -> object:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW runs AS FROM read_parquet('{path}')")
        return connection.sql(sql).to_arrow_table()


def _pandas_top(lines: Path) -> object:
    runs = pd.read_json(lines, lines=True)
    found = runs[(runs["status"] == "succeeded") & (runs["dataset"] == "dataset3")]
    return found.nlargest(20, "test_top1")[COLUMNS.split(", ")]


def _pandas_board(lines: Path) -> object:
    runs = pd.read_json(lines, lines=True)
    groups = runs[runs["status"] == "succeeded"].groupby(["variant", "dataset"])
    board = groups.agg({"test_top1": ["count", "mean", "std"], "epoch_seconds": "median"})
    return board.sort_values(("test_top1", "mean"), ascending=False)


if __name__ == "__main__":
    sys.exit(report.alone(results_at_scale))
