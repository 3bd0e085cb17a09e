"""`make bench`: what the machinery costs, each figure beside what it is compared with.

Writes bench.json: rows with name, unit, ours, reference, ratio, bar, holds; steps, which are the rows of
`tests.bench.steps`; and machine and versions. A bar that is null is not set yet; a row whose bar does not
hold makes the command fail.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import loader, machinery, overhead, planning, report, steps, store

BENCHES: tuple[Callable[[], list[dict[str, Any]]], ...] = (
    overhead.start_up,
    overhead.machinery_per_run,
    machinery.machinery,
    loader.loader,
    store.results_at_scale,
    planning.planning_at_scale,
)


def main() -> int:
    """Run every benchmark; 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    out = parser.parse_args().out.resolve()
    rows = [row for bench in BENCHES for row in bench()]
    held = report.judge(rows)
    step_rows = steps.quick()
    told = {"rows": rows, "steps": [asdict(row) for row in step_rows], **report.surroundings()}
    out.write_text(json.dumps(told, indent=1) + "\n")
    report.show(rows)
    steps.show(step_rows)
    report.complain(rows)
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
