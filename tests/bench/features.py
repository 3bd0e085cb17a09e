"""A grid of heads: features computed once, beside every run through the backbone.

24 runs of `linear` (learning rates x weight decays x seeds) on the quickstart's images and ViT, in
this process. The direct way is timed on a few of the runs, which all cost the same, and multiplied;
the other is timed whole, the computing of the features included, from an empty cache.

    python -m tests.bench.features
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import Any

from tests.bench import report

DIRECT = 3
BAR = 1 / 20
SUITE = """
schema: 1
suite: heads
backbone: vit_small14_focus
methods: [linear]
datasets: [{name: mnist, train: 500, val: 200, test: 500}]
seeds: 3
train:
  {epochs: 3, batch_size: 16, lr: [1e-3, 3e-3, 1e-2, 3e-2], weight_decay: [0, 1e-4], warmup_epochs: 0.3}
"""


class _Deaf:
    def step(self, epoch: int, step: int, steps: int) -> None:
        pass

    def epoch(self, row: Any) -> None:
        pass


def features() -> list[dict[str, Any]]:
    """A row for the table of the benchmarks."""
    import torch

    from adapters.trial import run_trial
    from adapters.warm import Warm
    from results import metrics
    from suites.load import loads

    compute = {name: module.compute for name, module in metrics.all_metrics().items()}
    trials = [cell.spec.trial() for cell in loads(SUITE).cells()]
    warm = Warm(torch.device("cpu"))

    def seconds(trial: Any, *, keeps_features: bool) -> float:
        began = time.perf_counter()
        run_trial(trial, compute, warm=warm, observer=_Deaf(), keeps_features=keeps_features)
        return time.perf_counter() - began

    usual = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    seconds(trials[0], keeps_features=False)  # loads
    direct = [seconds(trial, keeps_features=False) for trial in trials[:DIRECT]]
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        before = os.environ.get("PEFTGRID_CACHE")
        os.environ["PEFTGRID_CACHE"] = folder
        kept = sum(seconds(trial, keeps_features=True) for trial in trials)
        if before is None:
            del os.environ["PEFTGRID_CACHE"]
        else:
            os.environ["PEFTGRID_CACHE"] = before
    torch.set_num_threads(usual)
    whole = statistics.median(direct) * len(trials)
    return [
        {
            "name": f"{len(trials)} heads: {kept:.1f} s from kept features, {whole:.0f} s through the ViT",
            "unit": "ratio",
            "ours": kept / whole,
            "reference": None,
            "reference_name": "",
            "bar": BAR,
        }
    ]


if __name__ == "__main__":
    sys.exit(report.alone(features))
