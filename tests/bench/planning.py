"""What planning costs at scale: 10,000 runs against 10,000 results, and 1,000,000 runs.

Planning is all between the text of a suite and the plan: reading, expansion, identities and what the
store says of each run. Imports and the start of the process are left out, and the file system's
caches are warm. The small plan is the median of `ROUNDS`; each large one is made once, in a process
of its own, whose largest memory, imports included, is the second figure. Beside the seconds stand those
of the processor: where they are far fewer, other programs had it and the bar says nothing.

`python -m tests.bench.planning` measures this alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.cli.plan_text import print_plan
from orchestrator.plan import Plan, make_plan
from results.store import Store
from suites.suite import Suite
from tests.bench import plans, report

MANY, FEW, ROUNDS = 1_000_000, 10_000, 5
GIBIBYTE = 2**30


def planning_at_scale() -> list[dict[str, Any]]:
    """Rows for the table of the benchmarks."""
    name = "planning 10,000 runs against 10,000 results"
    rows = [_row(name, "s", *_against_results(), bar=2.0)]
    for seeds in (10, 1):
        name = f"1,000,000 runs, seeds per configuration: {seeds}"
        found = _in_a_process(MANY, seeds)
        rows += [
            _row(f"planning {name}", "s", *found["planned"], bar=60.0),
            _row(f"peak memory of planning {name}", "GiB", found["bytes"][0] / GIBIBYTE, bar=2.0),
            _row(f"printing the plan of {name}", "s", *found["printed"]),
        ]
    return rows


def _against_results() -> tuple[float, float]:
    """Median seconds, and those of the processor, of a plan in which every run is done."""
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        plans.finished(Path(folder), plans.suite(FEW, 10))

        def plan() -> None:
            planned = make_plan(plans.suite(FEW, 10), Store.open(folder))
            assert planned.counts() == {"succeeded": FEW}

        plan()
        taken = zip(*(_seconds(plan) for _ in range(ROUNDS)), strict=True)
        wall, processor = map(statistics.median, taken)
        return wall, processor


def _in_a_process(runs: int, seeds: int) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "tests.bench.planning", str(runs), str(seeds)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, list[float]] = json.loads(told)
    return found


def _once(runs: int, seeds: int) -> dict[str, list[float]]:
    """Seconds and memory of one plan of a suite for which there is no store."""
    make_plan(plans.suite(plans.CONFIGS, 1), None)  # what is imported with the first plan
    made: list[tuple[Suite, Plan]] = []

    def plan() -> None:
        suite = plans.suite(runs, seeds)
        made.append((suite, make_plan(suite, None)))

    planned = _seconds(plan)
    assert len(made[0][1].runs) == runs
    # Before printing, which is no part of it.
    peak = _peak_bytes()
    with contextlib.redirect_stdout(io.StringIO()):
        printed = _seconds(lambda: print_plan(*made[0], as_json=False))
    return {"planned": list(planned), "printed": list(printed), "bytes": [peak]}


def _peak_bytes() -> int:
    """The largest memory of this process so far.

    Linux's `ru_maxrss` begins with that of the process that started this one.
    """
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def _seconds(way: Callable[[], object]) -> tuple[float, float]:
    """How long it takes, and how long it has the processor."""
    began, processor = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - began, time.process_time() - processor


def _row(
    name: str, unit: str, ours: float, processor: float | None = None, bar: float | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": processor,
        "reference_name": "of the processor",
        "bar": bar,
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(_once(int(sys.argv[1]), int(sys.argv[2]))))
    else:
        sys.exit(report.alone(planning_at_scale))
