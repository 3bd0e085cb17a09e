import io
import os
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from orchestrator.cli import main
from results.evaluations import Evaluation
from results.predictions import save_predictions
from results.record import Epoch

RANKS = (1, 4, 8)
DATASETS = ("mnist", "digits", "shapes", "letters", "clothes")


@pytest.fixture
def peftgrid(monkeypatch, capsys, store):
    """Run a command over the store; (exit code, standard output, standard error)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["peftgrid", *words, "--store", str(store.path)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, " ".join(err.replace("│", " ").split())

    return run


@pytest.fixture
def study(store, attempt, cell, monkeypatch):
    """Variants on five data sets with three seeds, scores, costs, ranks and learning curves.

    Returns a function: names of the variants with their parameters -> the store, filled; `linear`
    has the columns of the runs of that variant.
    """

    # Hundreds of small files in a folder that no power cut will miss.
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def build(variants=None, *, seeds=3, datasets=DATASETS, missing=(), linear=None):
        variants = variants or {
            "linear": 100,
            **{f"lora[rank={rank}]": 1000 * rank for rank in RANKS},
            **{f"vera[rank={rank},alpha=2]": 300 * rank for rank in RANKS},
        }
        rows = []
        for v, (name, params) in enumerate(variants.items()):
            rank = name.partition("rank=")[2].rstrip("]").partition(",")[0] or None
            for d, dataset in enumerate(datasets):
                for seed in range(seeds):
                    run_id = f"r{len(rows)}"
                    rows.append(cell(run_id, name, dataset, seed, trainable_params=params))
                    if (name, dataset, seed) in missing:
                        continue
                    score = 0.3 + 0.05 * v + 0.01 * seed + 0.02 * d
                    done = {"variant": name, "dataset": dataset, "seed": seed, "rank": rank}
                    done |= {"metrics": {"test/top1": score, "test/nll": 1 - score}}
                    done |= {"trainable_params": params, "epoch_seconds": 1.0 + v}
                    done |= {"peak_memory_bytes": 2**20 * (v + 1), "device": "cpu", "threads": 1}
                    done |= (linear or {}) if name == "linear" else {}
                    if dataset == "mnist":
                        done |= predictions(store, run_id, score)
                    store.commit(attempt(run_id, **done), list(curve(run_id, score)))
                    if dataset == "mnist":
                        store.save_evaluations(path_of(run_id, v))
        store.save_plan("demo", rows[0].suite_digest, "text", rows)
        return store

    return build


def predictions(store, run_id, score):
    """Those of a run that gets the first images of 20 right, as many as its score says."""
    labels = np.arange(20) % 2
    right = np.arange(20) < 20 * score
    logits = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
    where = {"split": "test", "dataset": "mnist", "data_digest": "d"}
    return save_predictions(store, run_id, 1, logits, labels, **where)


def path_of(run_id, variant):
    """A WiSE path on the own set and on two shifted ones, better between its ends on the latter."""
    return [
        Evaluation(
            run_id=run_id,
            set=name,
            split="test",
            mode="all",
            alpha=alpha,
            own=name == "mnist",
            metrics={"top1": 0.2 + alpha * 0.1 * (1 + variant) + shift * alpha * (1 - alpha)},
        )
        for name, shift in (("mnist", 0.0), ("mnist+jpeg:3", 0.3), ("digits", 0.2))
        for alpha in (0.0, 0.5, 1.0)
    ]


def curve(run_id, score):
    for epoch in (1, 2, 3):
        at = {"run_id": run_id, "attempt": 1, "epoch": epoch}
        yield Epoch(**at, split="train", loss=2.0 / epoch, top1=score)
        yield Epoch(**at, split="val", top1=score * epoch, metrics={"nll": 1 / epoch})


def svg_of(picture):
    """The root of the SVG and all of its visible text."""
    root = ET.fromstring(picture.to_svg())
    texts = [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]
    return root, texts


def png_of(picture):
    image = Image.open(io.BytesIO(picture.to_png()))
    image.load()
    return image


def lines(picture, start):
    """The lines that are really drawn, by the names that begin so: name -> (x, y)."""
    from results.figures._canvas import drawn

    return {
        line.get_gid(): tuple(list(map(float, data)) for data in line.get_data())
        for axes in drawn(picture).axes
        for line in axes.lines
        if (line.get_gid() or "").startswith(start)
    }
