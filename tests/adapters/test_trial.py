"""One run from its spec to its numbers, on the packaged tiny ViT and rendered images."""

import dataclasses

import numpy as np
import pytest
import torch

from adapters import registry
from adapters.errors import DataError, NonFiniteError, StopRequested
from adapters.methods._asa import Asa
from adapters.spec import TrainConfig, TrialSpec
from adapters.trial import build, run_trial
from adapters.warm import Warm

CPU = torch.device("cpu")
METRICS = {"top1": lambda logits, labels: float((logits.argmax(1) == labels).mean())}


class Recorder:
    """An observer that keeps what it hears."""

    def __init__(self):
        self.rows, self.steps = [], 0

    def step(self, epoch, step, steps):
        self.steps += 1

    def epoch(self, row):
        self.rows.append(row)


def spec(method="lora", *, seed=0, params=None, **train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=64, val=32, test=48),
        method=method,
        method_config=registry.method(method).Config(**(params or {})),
        train=TrainConfig(**({"epochs": 2, "batch_size": 24, "lr": 1e-2} | train)),
        seed=seed,
    )


@pytest.fixture(scope="module")
def warm():
    return Warm(CPU)


def run(trial, warm):
    recorder = Recorder()
    return run_trial(trial, METRICS, warm=warm, observer=recorder), recorder


def science(result):
    """What must be equal bit for bit when a run is repeated: all but times and memory."""
    rows = [(r.epoch, r.split, r.loss, r.top1, r.lr, r.grad_norm, r.metrics) for r in result.epochs]
    return rows, result.best_epoch, result.scores, result.adapter_params, result.head_params


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_used_process_equals_a_fresh_one_bit_for_bit(warm, precision):
    trial = spec(precision=precision)
    run(spec("full", seed=3), warm)  # changes every weight of its copy of the backbone
    used, _ = run(trial, warm)
    again, _ = run(trial, warm)
    fresh, _ = run(trial, Warm(CPU))
    assert science(used) == science(fresh) == science(again)


def test_another_seed_is_another_run(warm):
    assert science(run(spec(seed=0), warm)[0]) != science(run(spec(seed=1), warm)[0])


def test_the_head_starts_the_same_and_batches_come_in_the_same_order_for_every_method(warm):
    """With a learning rate of 0 only the head's start and the order are left to differ."""
    losses = {
        method: [r.loss for r in run(spec(method, lr=0.0), warm)[0].epochs]
        for method in ("linear", "lora", "ia3")
    }
    assert losses["linear"] == pytest.approx(losses["lora"], abs=1e-6)
    assert losses["linear"] == pytest.approx(losses["ia3"], abs=1e-6)


def test_the_test_set_is_scored_once_and_with_the_epoch_that_validation_chose(warm):
    result, recorder = run(spec(epochs=4), warm)
    by_split = {s: [r for r in recorder.rows if r.split == s] for s in ("train", "val", "test")}
    assert (
        [r.epoch for r in by_split["train"]] == [r.epoch for r in by_split["val"]] == [1, 2, 3, 4]
    )
    (test,) = by_split["test"]
    best = max(by_split["val"], key=lambda r: (r.top1, -r.epoch))
    assert result.best_epoch == best.epoch == test.epoch
    assert result.scores["val/top1"] == best.top1
    assert result.scores["test/top1"] == test.top1


def test_best_val_brings_back_the_weights_of_its_epoch(warm):
    """Scored by best_val at epoch 1 equals the same run ended after epoch 1."""
    constant = {"schedule": "constant", "lr": 3e-2}
    results = {n: run(spec(epochs=n, **constant), warm)[0] for n in (1, 2, 3, 4)}
    best = results[4].best_epoch
    ended_there, _ = run(spec(epochs=best, select_epoch="last_epoch", **constant), warm)
    assert results[4].scores["test/top1"] == ended_there.scores["test/top1"]
    assert results[4].scores["val/loss"] == ended_there.scores["val/loss"]


def test_last_epoch_and_oracle(warm):
    last, _ = run(spec(epochs=3, select_epoch="last_epoch"), warm)
    assert last.best_epoch == 3
    oracle, recorder = run(spec(epochs=3, select_epoch="oracle_test"), warm)
    tests = {r.epoch: r.top1 for r in recorder.rows if r.split == "test"}
    assert set(tests) == {1, 2, 3}
    assert oracle.scores["test/top1"] == max(tests.values())


def test_a_tuning_run_never_scores_the_test_set(warm):
    result, recorder = run(spec(score="none"), warm)
    assert not [r for r in recorder.rows if r.split == "test"]
    assert not [name for name in result.scores if name.startswith("test")]


def test_train_plus_val_trains_on_both_and_validates_on_none(warm):
    result, recorder = run(spec(fit="train+val", select_epoch="last_epoch"), warm)
    assert not [r for r in recorder.rows if r.split == "val"]
    rates = [(r.images_per_second * r.seconds) for r in recorder.rows if r.split == "train"]
    assert rates == pytest.approx([96, 96])
    assert "test/top1" in result.scores


def test_counts_are_measured(warm):
    result, _ = run(spec("lora", params={"rank": 2}), warm)
    assert result.adapter_params == 6 * 2 * (160 + 480)
    assert result.head_params == 16 * 161
    base = 1_884_170 - 10 * 161
    assert result.total_params == base + result.adapter_params + result.head_params


def test_a_run_that_freezes_nothing_has_no_active_counts(warm):
    for params in ({}, {"subspaces": 2}):
        result, _ = run(spec("adamss" if params else "lora", params=params, epochs=1), warm)
        assert result.active_params is result.active_subspaces is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_asa_ends_with_exactly_its_target(warm, monkeypatch, precision):
    built = []

    def keep(*args):
        built.append(build(*args))
        return built[-1]

    monkeypatch.setattr("adapters.trial.build", keep)
    asa = Asa(target_subspaces=7, init_warmup=0.1, final_warmup=0.75, mask_interval=2)
    params = {"total_rank": 20, "subspaces": 4, "subspace_rank": 2, "asa": asa}
    trial = spec("adamss", params=params, epochs=4, precision=precision)
    result, _ = run(trial, warm)
    assert result.active_subspaces == 7
    (adapted,) = built
    trained = adapted.trainable_parameters.values()
    assert sum(p.requires_grad for p in trained) == 2 * 7 + 2
    assert result.active_params == sum(p.numel() for p in trained if p.requires_grad)
    assert result.active_params < result.adapter_params + result.head_params
    assert science(run(trial, warm)[0]) == science(result)


def test_accuracy_is_over_the_whole_split_and_not_a_mean_of_batches(warm, monkeypatch):
    seen = []

    def top1(logits, labels):
        seen.append(len(labels))
        return METRICS["top1"](logits, labels)

    monkeypatch.setattr("adapters.training.evaluate.EVAL_BATCH", 20)
    run_trial(spec(epochs=1), {"top1": top1}, warm=warm, observer=Recorder())
    assert seen == [32, 48]


def test_a_loss_that_is_not_finite_ends_the_run_with_epoch_and_value(warm):
    with pytest.raises(NonFiniteError, match=r"loss is (nan|inf) at epoch \d, step \d of 3"):
        run(spec("full", lr=1e30, optimizer="sgd"), warm)


def test_images_that_are_not_the_declared_ones_are_refused(monkeypatch):
    module = registry.dataset("shapes_location")
    monkeypatch.setattr(module, "DIGEST", "0" * 64)
    with pytest.raises(DataError, match=r"shapes_location.*declared is 0000"):
        run(spec(), Warm(CPU))


def test_a_stop_leaves_through_the_observer(warm):
    class Stopping(Recorder):
        def step(self, epoch, step, steps):
            super().step(epoch, step, steps)
            if self.steps == 3:
                raise StopRequested("asked")

    with pytest.raises(StopRequested):
        run_trial(spec(), METRICS, warm=warm, observer=Stopping())


def test_weight_decay_spares_what_a_method_exempts(warm):
    """ia3's scales start at 1: decay alone would pull them to 0. With lr only on decay, they stay."""
    from adapters.training.optim import optimizer_of

    adapted = build(spec("ia3"), 16, warm)
    groups = optimizer_of(adapted, TrainConfig(weight_decay=0.5)).param_groups
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert {decays[id(p)] for p in adapted.adapter_parameters.values()} == {0.0}
    assert {decays[id(p)] for p in adapted.head_parameters.values()} == {0.5}


def test_the_zero_head_starts_with_uniform_predictions(warm):
    result, recorder = run(spec("linear", head_init="zero", lr=0.0, epochs=1), warm)
    assert recorder.rows[0].loss == pytest.approx(np.log(16), abs=1e-5)
    assert dataclasses.is_dataclass(result)
