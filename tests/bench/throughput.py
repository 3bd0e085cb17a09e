"""Finished runs per hour: a suite by `peftgrid run`, beside what somebody would write instead.

The suite is the quickstart, 24 runs on real images and a real ViT. Compared are

    bare     the same runs, one after another, in one process: no Ray, no store, no checkpoints;
             model and images loaded once
    trainer  one `TorchTrainer` per run, as Ray's guide has it, for the first runs alone
    tune     Ray Tune with HF PEFT's LoRA, one trial per run, actors reused

and by peftgrid one job of all cores, and a job of one thread for each core. Everything is started as
a process of its own and timed from its start to its end. Half an hour on two cores:

    python -m tests.bench.throughput
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import report

START_UP = 20.0
"""Seconds that starting Ray may take."""
FEW = 4
"""Runs that are made as a `TorchTrainer` each, and as trials."""


def suite_throughput(suite: str = "quickstart") -> list[dict[str, Any]]:
    """Rows for the table of the benchmarks."""
    cores = os.cpu_count() or 1
    bare = _alone("bare", suite, cores)
    several = _by_peftgrid(suite, "resources.cpus=1")
    single = _by_peftgrid(suite, f"resources.cpus={cores}")
    trainer = _alone("trainer", suite, cores)
    tune = _alone("tune", suite, cores)
    work = bare["wall"] - bare["loading"]
    runs = bare["runs"]
    ours = several / runs
    return [
        _row("one job of all cores, beyond 20 s", single - START_UP, work, "bare loop", 1.10),
        _row(f"{cores} jobs of one thread", several, bare["wall"], "bare loop", 1.0),
        _row("a run of the suite", ours, trainer["wall"] / FEW, "one TorchTrainer per run", 1 / 5),
        _row("a run of the suite", ours, tune["wall"] / FEW, "Ray Tune with HF PEFT", 1.0),
    ]


def _row(name: str, ours: float, theirs: float, what: str, bar: float) -> dict[str, Any]:
    """`ours` as the ratio to `theirs`, since the bar is one."""
    return {
        "name": f"{name}: {ours:.1f} s, {what}: {theirs:.1f} s",
        "unit": "ratio",
        "ours": ours / theirs,
        "reference": None,
        "reference_name": what,
        "bar": bar,
    }


def _by_peftgrid(suite: str, *settings: str) -> float:
    """Seconds of `peftgrid run` in a store of its own."""
    words = [word for setting in settings for word in ("--set", setting)]
    command = [Path(sys.executable).parent / "peftgrid", "run", suite, *words, "--quiet", "--json"]
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - began


def _alone(way: str, suite: str, threads: int) -> dict[str, float]:
    """What a way of doing it tells, with its seconds as a process."""
    given = {"--way": way, "--suite": suite, "--threads": str(threads)}
    words = [word for pair in given.items() for word in pair]
    command = [sys.executable, "-m", "tests.bench.throughput", *words]
    began = time.perf_counter()
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return {"wall": time.perf_counter() - began, **found}


class _Deaf:
    def step(self, epoch: int, step: int, steps: int) -> None:
        pass

    def epoch(self, row: Any) -> None:
        pass


def _bare(suite: str, threads: int) -> dict[str, float]:
    """Every run in this process; what it spent on imports and on loading model and images."""
    began = time.perf_counter()
    import torch

    from adapters.trial import run_trial
    from adapters.warm import Warm
    from results import metrics
    from suites.load import load

    torch.set_num_threads(threads)
    warm = Warm(torch.device("cpu"))
    compute = {name: module.compute for name, module in metrics.all_metrics().items()}
    loading, specs = time.perf_counter() - began, [cell.spec for cell in load(suite, []).cells()]
    known: set[Any] = set()
    for spec in specs:
        began = time.perf_counter()
        result = run_trial(spec.trial(), compute, warm=warm, observer=_Deaf())
        if (spec.backbone, spec.dataset) not in known:  # the first one loads
            known.add((spec.backbone, spec.dataset))
            loading += time.perf_counter() - began - result.train_seconds - result.eval_seconds
    return {"runs": len(specs), "loading": loading}


def _trainer(suite: str, threads: int) -> dict[str, float]:
    """The first runs, each as a Ray Train job of its own."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from suites.load import load

    def loop(config: dict[str, Any]) -> None:
        import torch

        from adapters.trial import run_trial
        from adapters.warm import Warm
        from results import metrics

        torch.set_num_threads(config["threads"])
        compute = {name: module.compute for name, module in metrics.all_metrics().items()}
        run_trial(config["trial"], compute, warm=Warm(torch.device("cpu")), observer=_Deaf())

    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False)
    cells = load(suite, []).cells()
    for _, cell in zip(range(FEW), cells, strict=False):
        with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
            TorchTrainer(
                loop,
                train_loop_config={"trial": cell.spec.trial(), "threads": threads},
                scaling_config=ScalingConfig(resources_per_worker={"CPU": threads}),
                run_config=RunConfig(storage_path=folder),
            ).fit()
    ray.shutdown()
    return {"runs": FEW}


def _tune(suite: str, threads: int) -> dict[str, float]:
    """As many trials of HF PEFT's LoRA, with the epochs, batches and images of the suite's LoRA."""
    import ray
    from ray import tune

    from suites.load import load

    cells = load(suite, []).cells()
    chosen = next(cell.spec.trial() for cell in cells if cell.spec.method == "lora")

    class Trial(tune.Trainable):  # type: ignore[misc]  # ray has no types
        def setup(self, config: dict[str, Any]) -> None:
            import torch

            from adapters import backbones
            from adapters.warm import Warm

            torch.set_num_threads(threads)
            info = backbones.describe(chosen.backbone)
            self._data = Warm(torch.device("cpu")).data(
                chosen.dataset, chosen.dataset_config, info, chosen.preprocess
            )
            self._plain = backbones.create(chosen.backbone)
            self._seed = config["seed"]

        def reset_config(self, config: dict[str, Any]) -> bool:
            self._seed = config["seed"]
            return True

        def step(self) -> dict[str, Any]:
            return {"top1": _hf_lora(self._plain, self._data, chosen, self._seed), "done": True}

        def save_checkpoint(self, _folder: str) -> dict[str, Any]:
            return {}  # Tune asks for one at the end

        def load_checkpoint(self, _state: Any) -> None:
            pass

    ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        found = tune.Tuner(
            tune.with_resources(Trial, {"cpu": threads}),
            param_space={"seed": tune.grid_search(list(range(FEW)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
        assert not found.errors, found.errors
        assert len(found) == FEW
    ray.shutdown()
    return {"runs": FEW}


def _hf_lora(plain: Any, data: Any, trial: Any, seed: int) -> float:
    """Train HF PEFT's LoRA and the head; accuracy on the test images."""
    import copy

    import peft
    import torch
    from torch import nn

    from adapters import backbones
    from adapters.training.evaluate import Normalise

    torch.manual_seed(seed)
    vit = copy.deepcopy(plain)
    vit.reset_classifier(data.classes)
    rank = trial.method_config.rank
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=trial.method_config.alpha,
        target_modules=["qkv"],
        modules_to_save=["head"],
    )
    model = peft.get_peft_model(vit, config)
    info = backbones.describe(trial.backbone)
    normalise = Normalise(info, torch.device("cpu"), trial.preprocess)
    learned = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=trial.train.lr)
    size, train = trial.train.batch_size, data.train
    for _ in range(trial.train.epochs):
        model.train()
        for rows in torch.randperm(len(train)).split(size):
            optimizer.zero_grad()
            logits = model(normalise(train.pixels[rows]))
            nn.functional.cross_entropy(logits, train.labels[rows]).backward()
            optimizer.step()
        model.eval()
        _top1(model, normalise, data.val, size)
    return _top1(model, normalise, data.test, size)


def _top1(model: Any, normalise: Any, part: Any, size: int) -> float:
    import torch

    with torch.no_grad():
        right = [
            (model(normalise(part.pixels[rows])).argmax(1) == part.labels[rows]).sum()
            for rows in torch.arange(len(part)).split(size)
        ]
    return float(sum(right)) / len(part)


_WAYS: dict[str, Callable[[str, int], dict[str, float]]] = {
    "bare": _bare,
    "trainer": _trainer,
    "tune": _tune,
}


def main() -> int:
    """Measure everything, or as a process of its own one way."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.throughput", description=__doc__)
    parser.add_argument("--way", choices=_WAYS)
    parser.add_argument("--suite", default="quickstart")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.way is None:
        return report.alone(lambda: suite_throughput(given.suite))
    print(json.dumps(_WAYS[given.way](given.suite, given.threads)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
