"""Micro-batches: the effective batch, its update and its numbers stay what they are."""

import pytest
import torch

from adapters import backbones, registry
from adapters.errors import NonFiniteError
from adapters.spec import TrainConfig, TrialSpec
from adapters.training.evaluate import Normalise
from adapters.training.fit import Fitter
from adapters.trial import build, run_trial
from adapters.warm import Warm

CPU = torch.device("cpu")
METRICS = {
    "top1": lambda logits, labels: float((logits.argmax(1) == labels).mean()),
    "first": lambda logits, labels: float(logits[0, 0]),
}


class Counting:
    def __init__(self):
        self.steps = []

    def step(self, epoch, step, steps):
        self.steps.append((epoch, step, steps))

    def epoch(self, row):
        pass


def spec(method="lora", **train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=40, val=16, test=16),
        method=method,
        method_config=registry.method(method).Config(),
        train=TrainConfig(**({"epochs": 2, "batch_size": 24, "lr": 1e-3} | train)),
    )


@pytest.fixture(scope="module")
def warm():
    return Warm(CPU)


def run(trial, warm, **options):
    return run_trial(trial, METRICS, warm=warm, **({"observer": Counting()} | options))


def rows(result):
    return [(r.epoch, r.split, r.loss, r.top1, r.grad_norm, r.metrics) for r in result.epochs]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_micro_batch_that_holds_the_batch_changes_no_bit(warm, precision):
    trial = spec(precision=precision)
    unsplit = rows(run(trial, warm))
    assert rows(run(trial, warm, micro_batch=24)) == unsplit
    assert rows(run(trial, warm, micro_batch=1000)) == unsplit


# Steps of 24 and 16 images: as 10 + 10 + 4 and 10 + 6, or image by image.
@pytest.mark.parametrize("micro_batch", [10, 1])
@pytest.mark.parametrize(("method", "optimizer"), [("lora", "adamw"), ("full", "sgd")])
def test_losses_norms_and_logits_are_those_of_the_whole_batch(warm, method, optimizer, micro_batch):
    trial = spec(method, optimizer=optimizer, label_smoothing=0.1)
    whole, split = run(trial, warm), run(trial, warm, micro_batch=micro_batch)
    assert split.best_epoch == whole.best_epoch
    for a, b in zip(whole.epochs, split.epochs, strict=True):
        assert (b.top1, b.lr) == (a.top1, a.lr)
        assert b.loss == pytest.approx(a.loss, rel=1e-5)
        if a.split == "train":
            assert b.grad_norm == pytest.approx(a.grad_norm, rel=1e-5)
        assert b.metrics == pytest.approx(a.metrics, rel=1e-5, abs=1e-5)


def updated(trial, warm, micro_batch):
    """The trained tensors after one step over the whole training set, and what they were before."""
    info = backbones.describe(trial.backbone)
    data = warm.data(trial.dataset, trial.dataset_config, info)
    adapted = build(trial, data.classes, warm)
    before = {n: p.detach().clone() for n, p in adapted.trainable_parameters.items()}
    fitter = Fitter(
        adapted,
        data.train,
        train=trial.train,
        seed=0,
        normalise=Normalise(info, CPU),
        micro_batch=micro_batch,
    )
    fitter.epoch(1, lambda step, steps: None)
    return adapted.trainable_parameters, before


def test_one_update_is_the_whole_batchs_with_a_short_last_micro_batch(warm):
    trial = spec("full", batch_size=40, optimizer="sgd", lr=1e-2, weight_decay=0.0)
    whole, before = updated(trial, warm, None)
    split, _ = updated(trial, warm, 16)  # 16, 16 and 8
    moved = [(whole[name] - before[name]).abs().max() for name in whole]
    assert max(moved) > 1e-3
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=0, atol=1e-6)


def test_the_observer_is_asked_before_every_optimiser_step_and_not_before_its_parts(warm):
    counting = Counting()
    run(spec(), warm, observer=counting, micro_batch=5)
    training = [step for step in counting.steps if step[1] < step[2]]
    assert training == [(1, 0, 2), (1, 1, 2), (2, 0, 2), (2, 1, 2)]


def test_a_loss_that_is_not_finite_is_still_named(warm):
    with pytest.raises(NonFiniteError, match=r"loss is (nan|inf) at epoch \d, step \d of 2, learn"):
        run(spec("full", lr=1e30, optimizer="sgd"), warm, micro_batch=7)


def test_a_micro_batch_of_none_is_refused(warm):
    with pytest.raises(ValueError, match="micro_batch: 0 given, allowed: "):
        run(spec(), warm, micro_batch=0)
