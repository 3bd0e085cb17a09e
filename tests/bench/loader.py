"""How fast images come out of the warm decoded cache, beside how fast a ViT-Ti trains on them.

Batches are what a run draws: 64 images in random order from a memory-mapped file of 224 pixels, as
normalised float32. The step is LoRA on ViT-Ti/16 with the same batches. Both on one thread, alternating.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from adapters import attach
from adapters.spec import TrainConfig
from adapters.training.evaluate import Normalise
from adapters.training.fit import Fitter
from adapters.warm import Pixels, Warm
from tests.bench import report

IMAGES, BATCH, ROUNDS, FASTER = 256, 64, 5, 20
SUITE = """
schema: 1
suite: loader
backbone: vit_tiny_patch16_224
methods: [linear]
datasets: [{{name: image_folder/noise, classes: 2, train: {train}, val: 2}}]
"""


def loader() -> list[dict[str, Any]]:
    """Seconds for an image, as a share of a training step's: at most a twentieth."""
    with tempfile.TemporaryDirectory(prefix="peftgrid-bench-") as folder:
        os.environ |= {"PEFTGRID_DATA": folder, "PEFTGRID_CACHE": f"{folder}/cache"}
        try:
            return _measured(Path(folder))
        finally:
            del os.environ["PEFTGRID_DATA"], os.environ["PEFTGRID_CACHE"]


def _measured(folder: Path) -> list[dict[str, Any]]:
    from adapters import backbones, registry
    from suites.load import loads

    _noise(folder / "image_folder" / "noise")
    trial = next(loads(SUITE.format(train=IMAGES)).cells()).spec.trial()
    assert registry.dataset(trial.dataset).missing() is None
    info = backbones.describe(trial.backbone)

    def images() -> Pixels:
        warm = Warm(torch.device("cpu"))
        return warm.data(trial.dataset, trial.dataset_config, info).train

    images()  # decodes
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fitter = _fitter(images(), Normalise(info, torch.device("cpu")))
        taken: dict[str, list[float]] = {"loaded": [], "trained": []}
        for epoch in range(1, ROUNDS + 1):
            order = torch.randperm(IMAGES)
            began = time.perf_counter()
            for part in torch.split(order, BATCH):
                fitter._inputs(part, epoch)
            loaded = time.perf_counter()
            fitter.epoch(epoch, lambda step, steps: None)
            taken["loaded"].append((loaded - began) / IMAGES)
            taken["trained"].append((time.perf_counter() - loaded) / IMAGES)
    finally:
        torch.set_num_threads(usual)
    loaded, trained = (statistics.median(taken[way]) for way in ("loaded", "trained"))
    return [
        _row("images from the warm cache", "images/s", 1 / loaded, 1 / trained),
        _row(
            "an image from the warm cache, of a step's", "share", loaded / trained, bar=1 / FASTER
        ),
    ]


def _fitter(images: Pixels, normalise: Normalise) -> Fitter:
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=2)
    adapted = attach(vit, "lora", rank=8, seed=0)
    train = TrainConfig(epochs=ROUNDS, batch_size=BATCH)
    return Fitter(adapted, images, train=train, seed=0, normalise=normalise)


def _noise(folder: Path) -> None:
    """As many JPEG files as are needed, with a test image of each class."""
    rng = np.random.default_rng(0)
    for part, each in (("train", IMAGES // 2 + 1), ("test", 1)):
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
            for at in range(each):
                pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{at}.jpg")


def _row(
    name: str, unit: str, ours: float, step: float | None = None, bar: float | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": step,
        "reference_name": "in training steps",
        "bar": bar,
    }


if __name__ == "__main__":
    raise SystemExit(report.alone(loader))
