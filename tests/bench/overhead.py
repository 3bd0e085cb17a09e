"""What one command and one run cost beside the training itself."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = 30
SUITE = f"""
schema: 1
suite: overhead
backbone: vit_tiny_fashion
methods: [{{name: lora, rank: 4}}]
datasets: [{{name: shapes_location, train: 64, val: 32, test: 32}}]
seeds: {SEEDS}
train: {{epochs: 1, batch_size: 32}}
"""


def start_up() -> list[dict[str, Any]]:
    """Seconds from the shell prompt to the first training step, by `peftgrid run smoke`.

    Compared with what any Ray program pays: a process that imports Ray Train and starts Ray.
    """
    ours, bare = [], []
    for _ in range(5):
        ours.append(_first_step())
        bare.append(_bare_ray())
    return [
        {
            "name": "prompt to first training step",
            "unit": "s",
            "ours": statistics.median(ours),
            "reference": statistics.median(bare),
            "reference_name": "a process that only starts Ray",
            "bar": None,
        }
    ]


def _first_step() -> float:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [Path(sys.executable).parent / "peftgrid", "run", "smoke", "--json", "--quiet"],
            cwd=folder,
            capture_output=True,
            check=True,
        )
    seconds: float = json.loads(done.stdout)["seconds_to_first_step"]
    return seconds


def _bare_ray() -> float:
    code = (
        "import ray, ray.train.torch; "
        "ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level='error')"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return time.perf_counter() - began


def machinery_per_run() -> list[dict[str, Any]]:
    """Seconds of a run in a warm job that are neither training nor evaluation.

    From hand-out to hand-out, less the row's train and eval seconds: the copy of the backbone, the
    optimiser, metrics, claim and commit, two calls to the dispatcher. Compared with the same runs in a
    bare loop in this process: no Ray, no store. The first run of each, which loads, is left out.
    """
    return [
        {
            "name": "machinery per run in a warm job",
            "unit": "s",
            "ours": statistics.median(_by_job()),
            "reference": statistics.median(_by_bare_loop()),
            "reference_name": "the same runs in a bare loop",
            "bar": None,
        }
    ]


def _by_job() -> list[float]:
    from orchestrator.driver import drive
    from results.store import Store
    from suites.load import loads

    handed: dict[str, float] = {}

    class View:
        def note(self, text: str) -> None:
            pass

        def event(self, event: Any, spec: Any) -> None:
            if event.kind == "started":
                handed[event.run_id] = event.at

        def update(self, *state: Any) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store", create=True)
        drive(loads(SUITE), store, View(), max_parallel=1)
        measured = {
            row["run_id"]: row["train_seconds"] + row["eval_seconds"]
            for row in store.runs().to_pylist()
        }
    order = sorted(handed, key=handed.__getitem__)
    return [
        handed[after] - handed[run] - measured[run] for run, after in itertools.pairwise(order[1:])
    ]


def _by_bare_loop() -> list[float]:
    import torch

    from adapters.trial import EpochResult, run_trial
    from adapters.warm import Warm
    from results import metrics
    from suites.load import loads

    class Deaf:
        def step(self, epoch: int, step: int, steps: int) -> None:
            pass

        def epoch(self, row: EpochResult) -> None:
            pass

    torch.set_num_threads(1)
    warm = Warm(torch.device("cpu"))
    compute = {name: module.compute for name, module in metrics.all_metrics().items()}
    left = []
    for cell in loads(SUITE).cells():
        began = time.perf_counter()
        result = run_trial(cell.spec.trial(), compute, warm=warm, observer=Deaf())
        left.append(time.perf_counter() - began - result.train_seconds - result.eval_seconds)
    return left[1:]
