"""What a run hands out of its test logits: those that its test metrics are of, once."""

import numpy as np
import pytest
import torch

from adapters import registry, trial
from adapters.checkpoint import CheckpointFolder
from adapters.errors import StopRequested
from adapters.spec import TrainConfig, TrialSpec
from adapters.trial import run_trial
from adapters.warm import Warm

METRICS = {
    "top1": lambda logits, labels: float((logits.argmax(1) == labels).mean()),
    "bits": lambda logits, labels: float(logits.astype("float64").sum()),
}
WORSENING = METRICS | {"top1": lambda logits, labels: -float(abs(logits).mean())}


class Silent:
    def __init__(self, stop_at=None):
        self._stop_at = stop_at

    def step(self, epoch, step, steps):
        pass

    def epoch(self, row):
        if (row.epoch, row.split) == self._stop_at:
            raise StopRequested("here")


def spec(**train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=48, val=32, test=40),
        method="lora",
        method_config=registry.method("lora").Config(rank=2),
        train=TrainConfig(**({"epochs": 3, "batch_size": 24, "lr": 1e-2} | train)),
    )


@pytest.fixture(scope="module")
def warm():
    return Warm(torch.device("cpu"))


@pytest.fixture
def passes(monkeypatch):
    """How often a split was scored."""
    counted, real = [], trial.score

    def score(*args, **kwargs):
        counted.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(trial, "score", score)
    return counted


def run(given, warm, *, metrics=METRICS, observer=None, keeper=None):
    handed = []
    result = run_trial(
        given,
        metrics,
        warm=warm,
        observer=observer or Silent(),
        keeper=keeper,
        on_predictions=lambda scored, digest: handed.append(scored),
    )
    return result, handed


@pytest.mark.parametrize("select", ["best_val", "last_epoch", "oracle_test"])
@pytest.mark.parametrize("metrics", [METRICS, WORSENING], ids=["best late", "best first"])
def test_the_logits_are_those_of_the_test_metrics(warm, select, metrics):
    result, (found,) = run(spec(select_epoch=select), warm, metrics=metrics)
    assert found.logits.shape == (40, registry.dataset("shapes_location").CLASSES)
    assert found.logits.dtype == np.float32
    assert metrics["bits"](found.logits, found.labels) == result.scores["test/bits"]


def test_the_labels_are_the_splits_in_its_order_whatever_the_seed_and_method(warm):
    _, (found,) = run(spec(), warm)
    data = registry.dataset("shapes_location")
    splits = data.load(data.Config(train=48, val=32, test=40))
    assert np.array_equal(found.labels, splits.test.labels)


@pytest.mark.parametrize(("select", "expected"), [("best_val", 3 + 1), ("oracle_test", 3 + 3)])
def test_no_forward_pass_is_made_for_them(warm, passes, select, expected):
    run(spec(select_epoch=select), warm)
    assert len(passes) == expected


def test_a_run_that_never_scores_the_test_set_hands_out_none(warm):
    assert run(spec(score="none"), warm)[1] == []


@pytest.mark.parametrize(
    ("select", "stop_at"), [("best_val", (1, "test")), ("oracle_test", (2, "test"))]
)
def test_a_run_whose_test_set_an_earlier_attempt_scored_hands_out_the_same(
    warm, tmp_path, select, stop_at
):
    given = spec(select_epoch=select)
    unbroken, (expected,) = run(given, warm, metrics=WORSENING)
    assert unbroken.best_epoch == 1

    def keeper(number):
        return CheckpointFolder(
            tmp_path, spec_hash="s", semantics={}, attempt=number, every_epochs=1
        )

    with pytest.raises(StopRequested):
        run(given, warm, metrics=WORSENING, observer=Silent(stop_at), keeper=keeper(1))
    resumed, (found,) = run(given, warm, metrics=WORSENING, keeper=keeper(2))
    assert resumed.scores == unbroken.scores
    assert np.array_equal(found.logits, expected.logits)
    assert np.array_equal(found.labels, expected.labels)
