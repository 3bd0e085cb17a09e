"""`make bench`: what the machinery costs, each figure beside what it is compared with.

Writes bench.json: rows with name, unit, ours, reference, ratio, bar, holds; steps, which are the rows of
`tests.bench.steps`; and machine and versions. A bar that is null is not set yet; a row whose bar does not
hold makes the command fail.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import overhead, steps

BENCHES: tuple[Callable[[], list[dict[str, Any]]], ...] = (
    overhead.start_up,
    overhead.machinery_per_run,
)


def main() -> int:
    """Run every benchmark; 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    out = parser.parse_args().out.resolve()
    rows = [row for bench in BENCHES for row in bench()]
    for row in rows:
        ours, reference = row["ours"], row["reference"]
        row["ratio"] = None if reference is None else ours / reference
        row["holds"] = None if row["bar"] is None else ours <= row["bar"]
    step_rows = steps.quick()
    report = {
        "rows": rows,
        "steps": [asdict(row) for row in step_rows],
        "machine": {
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("peftgrid", "ray", "torch", "timm", "peft")
        },
    }
    out.write_text(json.dumps(report, indent=1) + "\n")
    _show(rows)
    steps.show(step_rows)
    return int(any(row["holds"] is False for row in rows))


def _show(rows: list[dict[str, Any]]) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
