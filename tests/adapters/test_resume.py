"""An interrupted and resumed run equals the unbroken one bit for bit, wherever it was interrupted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapters import registry
from adapters.checkpoint import CheckpointFolder
from adapters.errors import StopRequested
from adapters.spec import TrainConfig, TrialSpec
from adapters.trial import run_trial
from adapters.warm import Warm

CPU = torch.device("cpu")
METRICS = {
    "top1": lambda logits, labels: float((logits.argmax(1) == labels).mean()),
    "bits": lambda logits, labels: float(logits.astype("float64").sum()),
}
WORSENING = METRICS | {"top1": lambda logits, labels: -float(abs(logits).mean())}
DROPPING = {"rank": 4, "dropout": 0.3}
PLACES = [
    ("epoch 1, step 0 of 2", (None, None)),
    ("epoch 1, step 1 of 2", (0, 1)),
    ("row of epoch 1 on train", (1, 0)),
    ("epoch 1, step 1 of 1", (1, 0)),  # an evaluation batch, of val
    ("row of epoch 1 on val", (1, 0)),
    ("epoch 2, step 0 of 2", (1, 0)),
    ("epoch 2, step 1 of 2", (1, 1)),
    ("row of epoch 2 on train", (2, 0)),
    ("epoch 2, step 1 of 1", (2, 0)),
    ("row of epoch 2 on val", (2, 0)),
    ("epoch 2, step 1 of 1", (2, 0)),  # of test, with the selected epoch's weights
    ("row of epoch 2 on test", (2, 0)),
]
"""Everything that the observer of a run of two epochs hears, and where a run stopped there goes on."""


class Stopping:
    """An observer that asks to stop at its `at`-th word, and knows where that was."""

    def __init__(self, at=None):
        self.at, self.heard, self.where, self.rows = at, 0, None, []

    def step(self, epoch, step, steps):
        self._hear(f"epoch {epoch}, step {step} of {steps}")

    def epoch(self, row):
        self.rows.append(row)
        self._hear(f"row of epoch {row.epoch} on {row.split}")

    def _hear(self, where):
        self.heard += 1
        if self.heard == self.at:
            self.where = where
            raise StopRequested(where)


def spec(method="lora", params=None, **train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=40, val=16, test=16),
        method=method,
        method_config=registry.method(method).Config(**(params or {})),
        train=TrainConfig(**({"epochs": 3, "batch_size": 24, "lr": 1e-2} | train)),
    )


def keeper(folder, attempt, every=1):
    return CheckpointFolder(
        folder, spec_hash="s", semantics={"training": 1}, attempt=attempt, every_epochs=every
    )


@pytest.fixture(scope="module")
def warm():
    return Warm(CPU)


def run(trial, warm, *, metrics=METRICS, **options):
    return run_trial(trial, metrics, warm=warm, **({"observer": Stopping()} | options))


def interrupted(trial, warm, folder, *stops, metrics=METRICS, every=1):
    """Stop at the `stops`-th words of one attempt after another; the attempt after these."""
    for attempt, at in enumerate(stops, start=1):
        options = {"observer": Stopping(at), "keeper": keeper(folder, attempt, every)}
        with pytest.raises(StopRequested):
            run(trial, warm, metrics=metrics, **options)
    return run(trial, warm, metrics=metrics, keeper=keeper(folder, len(stops) + 1, every))


def science(result):
    """All but times and memory, exactly."""
    rows = [(r.epoch, r.split, r.loss, r.top1, r.lr, r.grad_norm, r.metrics) for r in result.epochs]
    counts = result.adapter_params, result.head_params, result.total_params
    return json.loads(json.dumps([rows, result.best_epoch, result.scores, counts]))


@pytest.fixture(scope="module")
def unbroken(warm):
    """The science of an unbroken run, made once for each spec and set of metrics."""
    made = {}

    def get(trial, metrics=METRICS):
        key = repr(trial), id(metrics)
        if key not in made:
            made[key] = science(run(trial, warm, metrics=metrics))
        return made[key]

    return get


@pytest.mark.parametrize("at", range(1, len(PLACES) + 1))
def test_a_stop_at_every_word_of_the_observer(warm, unbroken, tmp_path, at):
    where, goes_on = PLACES[at - 1]
    trial = spec(params=DROPPING, epochs=2)
    expected = unbroken(trial)  # and the images are read: reading is heard as steps, too
    with pytest.raises(StopRequested, match=where):
        run(trial, warm, observer=Stopping(at), keeper=keeper(tmp_path, 1))
    observer = Stopping()
    result = run(trial, warm, observer=observer, keeper=keeper(tmp_path, 2))
    assert science(result) == expected
    assert (result.resumed_from_epoch, result.resumed_from_step) == goes_on
    assert tuple(observer.rows) == result.epochs  # what was trained before is heard again


def test_an_unbroken_run_says_nothing_else(warm, unbroken):
    trial, observer = spec(params=DROPPING, epochs=2), Stopping()
    unbroken(trial)
    run(trial, warm, observer=observer)
    assert observer.heard == len(PLACES)


@pytest.mark.parametrize(
    ("method", "params", "train"),
    [
        ("full", {}, {"optimizer": "sgd", "warmup_epochs": 1}),
        ("full", {}, {"optimizer": "adamw", "lr": 1e-4}),
        ("vpt_deep", {"dropout": 0.3}, {"optimizer": "adam"}),
        ("vera", {"dropout": 0.3}, {"optimizer": "sgd", "head_lr": 1e-3}),
        ("lora", DROPPING, {"optimizer": "adamw", "precision": "bf16"}),
        ("full", {}, {"optimizer": "adam", "precision": "bf16", "schedule": "linear"}),
        ("lora", DROPPING, {"fit": "train+val", "select_epoch": "last_epoch", "batch_size": 20}),
        ("lora", DROPPING, {"select_epoch": "oracle_test"}),
        ("lora", DROPPING, {"score": "none", "label_smoothing": 0.1}),
        ("lora", DROPPING, {"ema": 0.5, "drop_path": 0.3, "drop_last": True, "batch_size": 19}),
        ("lora", DROPPING, {"ema": 0.5, "select_epoch": "last_epoch", "clip_grad_norm": 0.1}),
        ("lora", DROPPING, {"mixup": 1.0, "cutmix": 1.0, "mix_prob": 0.8, "layer_decay": 0.5}),
        ("lora", {}, {"flip": True, "random_crop": 0.5, "randaugment": 9.0, "erasing": 0.5}),
        ("lora", {}, {"schedule": "osu_cosine", "schedule_unit": "epoch", "warmup_epochs": 1}),
    ],
)
def test_stopped_in_mid_epoch_then_in_an_evaluation(
    warm, unbroken, tmp_path, method, params, train
):
    trial = spec(method, params, **train)
    # Attempt 2 goes on in epoch 1 and is stopped in epoch 2, attempt 3 soon after it began.
    assert science(interrupted(trial, warm, tmp_path, 2, 8, 2)) == unbroken(trial)


def test_stopped_again_and_again_with_every_step_in_an_attempt_of_its_own(warm, unbroken, tmp_path):
    trial = spec(params=DROPPING, epochs=2)
    stops, rows = [], 0
    while len(stops) < 20:
        observer = Stopping(rows + 2)  # the rows so far are heard first
        try:
            result = run(trial, warm, observer=observer, keeper=keeper(tmp_path, len(stops)))
            break
        except StopRequested:
            stops.append(observer.where)
            rows = len(observer.rows)
    assert len(stops) == 7  # four steps and three evaluations, with the rows that follow them
    assert science(result) == unbroken(trial)


@pytest.mark.parametrize("select", ["best_val", "oracle_test"])
def test_the_best_epoch_may_lie_before_the_interruption(warm, unbroken, tmp_path, select):
    trial = spec(params=DROPPING, select_epoch=select, lr=3e-2)
    at = {"best_val": 11, "oracle_test": 15}[select]
    result = interrupted(trial, warm, tmp_path, at, metrics=WORSENING)
    assert result.resumed_from_epoch == 2
    assert result.best_epoch == 1
    assert science(result) == unbroken(trial, WORSENING)


def test_a_run_that_had_stopped_early_has_the_same_last_epoch_when_resumed(
    warm, unbroken, tmp_path
):
    trial = spec(params=DROPPING, lr=3e-2, epochs=5, early_stopping=1, select_epoch="last_epoch")
    result = interrupted(trial, warm, tmp_path, 11, metrics=WORSENING)  # while the test is scored
    assert result.best_epoch == 2
    assert science(result) == unbroken(trial, WORSENING)


def test_a_fresh_process_goes_on_with_the_same_bits(warm, unbroken, tmp_path):
    trial = spec(params=DROPPING)
    with pytest.raises(StopRequested):
        run(trial, warm, observer=Stopping(7), keeper=keeper(tmp_path, 1))
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, __file__, tmp_path],
        env=os.environ | threads | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(ended.stdout)
    assert told["from"] == [1, 1]
    assert told["science"] == unbroken(trial)


@pytest.mark.parametrize(("damaged", "resumed_from"), [(["2.1"], 1), (["2.1", "1.1"], None)])
def test_a_damaged_checkpoint_costs_time_and_changes_no_number(
    warm, unbroken, tmp_path, damaged, resumed_from
):
    trial = spec(params=DROPPING)
    for attempt, at in ((1, 6), (2, 8)):
        with pytest.raises(StopRequested):
            run(trial, warm, observer=Stopping(at), keeper=keeper(tmp_path, attempt))
    for name in damaged:
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    reader = keeper(tmp_path, 3)
    result = run(trial, warm, keeper=reader)
    assert result.resumed_from_epoch == resumed_from
    assert len(reader.reasons) == len(damaged)
    assert science(result) == unbroken(trial)


def test_micro_batches_are_resumed_exactly_too(warm, unbroken, tmp_path):
    trial = spec(params=DROPPING, epochs=2)
    whole = science(run(trial, warm, micro_batch=7))
    with pytest.raises(StopRequested):
        run(trial, warm, observer=Stopping(2), keeper=keeper(tmp_path, 1), micro_batch=7)
    assert science(run(trial, warm, keeper=keeper(tmp_path, 2), micro_batch=7)) == whole
    assert whole != unbroken(trial)  # other dropout masks


def test_what_a_result_says_of_its_resumption(warm, tmp_path):
    trial = spec(params=DROPPING, epochs=4)
    assert run(trial, warm).resumed_from_epoch is None
    with pytest.raises(StopRequested):
        run(trial, warm, observer=Stopping(12), keeper=keeper(tmp_path, 1))
    result = run(trial, warm, keeper=keeper(tmp_path, 2))
    assert (result.resumed_from_epoch, result.resumed_from_step) == (2, 1)
    train = [row.seconds for row in result.epochs if row.split == "train"]
    assert result.train_seconds == sum(train)
    # Epoch 1 and 3 came first in their attempts, and 3 was begun in the attempt before.
    assert result.epoch_seconds == (train[1] + train[3]) / 2


def test_snapshots_come_at_the_end_of_every_nth_epoch_but_the_last(warm):
    class Noting:
        every_epochs = 2

        def __init__(self):
            self.positions = []

        def load(self):
            return None

        def save(self, kept):
            self.positions.append((kept.epoch, kept.step, len(kept.state["curve"])))

    noting = Noting()
    run(spec("linear", epochs=6), warm, keeper=noting)
    assert noting.positions == [(2, 0, 4), (4, 0, 8)]


def test_a_stop_where_the_keeper_has_the_run_already_writes_nothing_more(warm, tmp_path):
    with pytest.raises(StopRequested):
        run(spec("linear"), warm, observer=Stopping(6), keeper=keeper(tmp_path, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.1.json", "1.1.safetensors"]


def test_a_keeper_that_cannot_write_raises_its_own_error(warm):
    class Full:
        every_epochs = 1

        def load(self):
            return None

        def save(self, kept):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(spec("linear"), warm, observer=Stopping(2), keeper=Full())


def test_the_model_is_handed_out_once_with_the_selected_epochs_weights(warm):
    handed = []

    def keep(adapted):
        handed.append({n: p.detach().clone() for n, p in adapted.trainable_parameters.items()})

    options = {"params": DROPPING, "schedule": "constant"}
    result = run(spec(**options), warm, metrics=WORSENING, on_model=keep)
    assert result.best_epoch == 1
    run(spec(**options, epochs=1), warm, metrics=WORSENING, on_model=keep)
    best, ended_there = handed
    assert all(torch.equal(best[name], ended_there[name]) for name in best)


if __name__ == "__main__":  # the fresh process of a test above
    resumed = run(spec(params=DROPPING), Warm(CPU), keeper=keeper(Path(sys.argv[1]), 2))
    at = resumed.resumed_from_epoch, resumed.resumed_from_step
    print(json.dumps({"from": at, "science": science(resumed)}))
