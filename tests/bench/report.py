"""The table of a benchmark: whether bars hold, and on what it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("peftgrid", "ray", "torch", "timm", "peft", "duckdb", "pyarrow", "pandas", "numpy")


def judge(rows: list[dict[str, Any]]) -> bool:
    """Fill in each row's ratio and whether its bar holds; True where none is missed.

    A row that was measured several times misses its bar where its `low`, the least, is above it: what else
    the machine did can only add to it.
    """
    for row in rows:
        ours, reference = row["ours"], row["reference"]
        row["ratio"] = None if reference is None else ours / reference
        row["holds"] = None if row["bar"] is None else row.get("low", ours) <= row["bar"]
    return not any(row["holds"] is False for row in rows)


def surroundings() -> dict[str, Any]:
    """The machine and the versions."""
    return {
        "machine": {
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table("figure", "unit", "ours", "compared with", "ratio", "bar", "holds")
    for row in rows:
        reference = f"{row['reference_name']}: {row['reference']:.4g}" if row["reference"] else "-"
        table.add_row(
            row["name"],
            row["unit"],
            f"{row['ours']:.4g}",
            reference,
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            "-" if row["bar"] is None else f"{row['bar']:g}",
            {None: "-", True: "yes", False: "NO"}[row["holds"]],
        )
    Console().print(table)


def complain(rows: list[dict[str, Any]]) -> None:
    """Say at the end, where a log that was cut still has it, which bars were missed."""
    for row in rows:
        if row["holds"] is False:
            print(f"missed: {row['name']}: {row['ours']:.4g} {row['unit']}, bar {row['bar']:g}")


def alone(bench: Callable[[], list[dict[str, Any]]]) -> int:
    """Run one benchmark and print its table; 1 if a bar does not hold."""
    rows = bench()
    held = judge(rows)
    show(rows)
    Console().print(surroundings())
    complain(rows)
    return int(not held)
