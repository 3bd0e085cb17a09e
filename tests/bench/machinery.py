"""What a run costs that does nothing: the machinery alone, over a thousand and ten thousand runs.

A method, a data set and a backbone of the benchmark's own (`noop/`) leave a run next to nothing to
compute. All runs go through one warm job of an embedded Ray. The machinery of a run is the time from
one finished run to the next, less what its row says of training and evaluation: the hand-out, the
copy of the backbone, the optimiser, metrics, claim, commit and report. `low` is that of the tenth of
the runs in which the machine did least else. Memory is looked at after a tenth and at the end, in the
driver and in the dispatcher.

`make bench` does a fifth of it; this does all, in six minutes:

    python -m tests.bench.machinery
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import report

FEW, MANY = 1_000, 10_000
BAR_SECONDS, BAR_GROWTH, BAR_MEMORY = 0.020, 1.2, 1.2
SUITE = """
schema: 1
suite: nothing
backbone: speck
methods: [nothing]
datasets: [{{name: dots, train: 8, val: 4, test: 4}}]
seeds: {seeds}
train: {{epochs: 1, batch_size: 8, lr: {rates}}}
store: {{models: none, predictions: none}}
"""
RATES = 10


def machinery() -> list[dict[str, Any]]:
    """Rows for the table of the benchmarks, of fewer runs."""
    return machinery_at_scale(FEW // 2, MANY // 5)


def machinery_at_scale(few: int = FEW, many: int = MANY) -> list[dict[str, Any]]:
    """The same of so many runs, and what it costs more where there are many."""
    one, other = _in_a_process(few), _in_a_process(many)
    rows = [
        _row(f"machinery of a run, of {n:,}", "s", found["mean"], BAR_SECONDS, found["least"])
        for n, found in ((few, one), (many, other))
    ]
    growth, least = other["mean"] / one["mean"], other["least"] / one["least"]
    rows.append(_row(f"that of {many:,} to that of {few:,}", "ratio", growth, BAR_GROWTH, least))
    for name in ("driver", "dispatcher"):
        ratio = other[f"{name}_late"] / other[f"{name}_early"]
        what = f"memory of the {name} after {many:,} runs, to that after a tenth"
        rows.append(_row(what, "ratio", ratio, BAR_MEMORY, ratio))
    return rows


def _row(name: str, unit: str, ours: float, bar: float, low: float) -> dict[str, Any]:
    return {"name": name, "unit": unit, "ours": ours, "reference": None, "bar": bar, "low": low}


def _in_a_process(runs: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.machinery", "--runs", str(runs)]
    plugins = str(Path(__file__).parent / "noop")
    told = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PEFTGRID_PLUGINS": plugins},
    ).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


class _View:
    """Keeps when runs ended, and looks at memory on the way."""

    def __init__(self, runs: int) -> None:
        self._looks = {runs // 10: "early", runs - 1: "late"}
        self.memory: dict[str, float] = {}
        self.ended: list[tuple[str, float]] = []

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def event(self, event: Any, _spec: Any) -> None:
        if event.kind != "finished":
            return
        self.ended.append((event.run_id, event.at))
        when = self._looks.get(len(self.ended))
        if when:
            self.memory[f"driver_{when}"] = _resident("self")
            (dispatcher,) = _named("ray::Dispatcher")
            self.memory[f"dispatcher_{when}"] = _resident(dispatcher)

    def update(self, *state: Any) -> None:
        pass


def _resident(process: str) -> float:
    """Bytes in memory."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return float(next(line for line in status if line.startswith("VmRSS")).split()[1]) * 1024


def _named(beginning: str) -> list[str]:
    """The processes below this one whose command line begins so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text()
            above = _parent(_parent(folder.name))  # Ray's node is between the two
        except OSError:
            continue
        if words.startswith(beginning) and above == str(os.getpid()):
            found.append(folder.name)
    return found


def _parent(process: str) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]


def _drive(runs: int) -> dict[str, float]:
    from orchestrator.driver import drive
    from results.store import Store
    from suites.load import loads

    rates = [round(1e-3 + 1e-5 * n, 5) for n in range(RATES)]
    suite, view = loads(SUITE.format(seeds=runs // RATES, rates=rates)), _View(runs)
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        store = Store.open(Path(folder) / "store", create=True)
        began = time.perf_counter()
        outcome = drive(suite, store, view, max_parallel=1)
        whole = time.perf_counter() - began
        assert outcome.succeeded == runs, outcome
        rows = store.runs(["train_seconds", "eval_seconds"]).to_pylist()
    own = {row["run_id"]: row["train_seconds"] + row["eval_seconds"] for row in rows}
    gaps = [
        after - before - own[run] for (_, before), (run, after) in itertools.pairwise(view.ended)
    ]
    size = len(gaps) // 10
    least = min(statistics.mean(gaps[at : at + size]) for at in range(0, size * 10, size))
    return {"mean": statistics.mean(gaps), "least": least, "whole": whole, **view.memory}


def main() -> int:
    """Measure, or do so many runs as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.machinery", description=__doc__)
    parser.add_argument("--runs", type=int)
    runs = parser.parse_args().runs
    if runs is None:
        return report.alone(machinery_at_scale)
    print(json.dumps(_drive(runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
