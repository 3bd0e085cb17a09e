"""Features that are kept change no result: the direct way gives the same epochs, scores and heads."""

import dataclasses

import pytest
import safetensors.torch
import torch

from adapters import registry
from adapters.errors import StopRequested
from adapters.spec import TrainConfig, TrialSpec
from adapters.training import features
from adapters.trial import run_trial
from adapters.warm import Warm
from results import metrics

CPU = torch.device("cpu")
METRICS = {name: module.compute for name, module in metrics.all_metrics().items()}


class Recorder:
    def __init__(self):
        self.rows = []

    def step(self, epoch, step, steps):
        pass

    def epoch(self, row):
        self.rows.append(row)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path))
    return tmp_path / "features"


@pytest.fixture
def computed(monkeypatch):
    """How many splits went through the backbone."""
    calls, real = [], features._computed

    def counting(*given):
        calls.append(len(given[1]))
        return real(*given)

    monkeypatch.setattr(features, "_computed", counting)
    return calls


def spec(method="linear", *, seed=0, params=None, **train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=70, val=48, test=60),
        method=method,
        method_config=registry.method(method).Config(**(params or {})),
        train=TrainConfig(**({"epochs": 3, "batch_size": 24, "lr": 1e-2} | train)),
        seed=seed,
    )


def run(trial, warm=None, **options):
    models, recorder, options = [], Recorder(), {"keeps_features": True} | options
    result = run_trial(
        trial,
        METRICS,
        warm=warm or Warm(CPU),
        observer=recorder,
        on_model=lambda adapted: models.append(
            {name: tensor.detach().clone() for name, tensor in adapted.head_parameters.items()}
        ),
        **options,
    )
    return result, models[0]


def agree(one, other):
    (a, head), (b, other_head) = one, other
    assert a.best_epoch == b.best_epoch
    assert [row.split for row in a.epochs] == [row.split for row in b.epochs]
    for mine, theirs in zip(a.epochs, b.epochs, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert mine.top1 == pytest.approx(theirs.top1, abs=1e-3)
        assert mine.lr == theirs.lr
    for name, tensor in head.items():
        torch.testing.assert_close(tensor, other_head[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"weight_decay": 0.1, "label_smoothing": 0.1},
        {"fit": "train+val", "select_epoch": "last_epoch"},
        {"ema": 0.9},
        {"head_init": "class_means"},
        {"precision": "bf16"},
    ],
    ids=lambda train: next(iter(train), "plain"),
)
def test_a_head_learns_the_same_from_kept_features(train, computed):
    trial = spec(**train)
    kept, direct = run(trial), run(trial, keeps_features=False)
    agree(kept, direct)
    assert (kept[0].kept_features, direct[0].kept_features) == (True, False)
    # A short last batch of 22 images is among them; the splits that are used, once each.
    assert sorted(computed) == [48, 60, 70]


def test_runs_and_seeds_of_a_process_share_them(computed):
    warm = Warm(CPU)
    for seed, lr in ((0, 1e-2), (1, 1e-2), (0, 3e-2)):
        run(spec(seed=seed, lr=lr), warm)
    assert len(computed) == 3


def test_another_process_reads_them_from_the_nodes_cache(cache, computed):
    first, second = run(spec()), run(spec(seed=1))
    assert len(computed) == 3
    assert len(list(cache.glob("*.safetensors"))) == 3
    assert first[0].scores != second[0].scores


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_file_is_made_anew(cache, computed, damage):
    direct = run(spec(), keeps_features=False)
    run(spec())
    for path in cache.glob("*.safetensors"):
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:500])
        else:
            tensors = safetensors.torch.load_file(path)
            safetensors.torch.save_file(tensors, path, metadata={"key": "another"})
    agree(run(spec()), direct)
    assert len(computed) == 6


@pytest.mark.parametrize(
    "trial",
    [
        spec(flip=True),
        spec(mixup=0.2),
        spec(drop_path=0.1),
        spec("lora"),
        spec("bitfit"),
        spec("vpt_shallow"),
    ],
    ids=["flip", "mixup", "drop_path", "lora", "bitfit", "vpt_shallow"],
)
def test_what_changes_what_the_head_sees_takes_the_direct_way(trial, computed):
    run(dataclasses.replace(trial, train=dataclasses.replace(trial.train, epochs=1)))
    assert computed == []


def test_what_is_too_large_to_keep_takes_the_direct_way(computed, monkeypatch):
    monkeypatch.setattr(features, "MOST_BYTES", 1000)
    run(spec(epochs=1))
    assert computed == []


def test_a_run_without_a_test_score_never_sees_the_test_images(computed):
    run(spec(score="none"))
    assert sorted(computed) == [48, 70]


class Stops(Recorder):
    def step(self, epoch, step, steps):
        if epoch == 2 and step == 1:
            raise StopRequested


class Keeper:
    """Keeps the last snapshot in memory."""

    every_epochs = 1

    def __init__(self):
        self.kept = None

    def load(self):
        return self.kept

    def save(self, snapshot):
        self.kept = snapshot


@pytest.mark.parametrize("first", [True, False])
def test_a_run_goes_on_either_way(first):
    """From a checkpoint of the one way to the end by the other."""
    keeper, trial = Keeper(), spec()
    with pytest.raises(StopRequested):
        run_trial(
            trial,
            METRICS,
            warm=Warm(CPU),
            observer=Stops(),
            keeper=keeper,
            keeps_features=first,
        )
    agree(run(trial, keeper=keeper, keeps_features=not first), run(trial, keeps_features=first))
