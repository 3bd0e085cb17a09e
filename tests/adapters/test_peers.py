"""Several processes on one run: the update, the numbers and the errors are those of one process."""

import dataclasses
import math
import os

import pytest
import torch
from torch import distributed, multiprocessing

from adapters import registry
from adapters.errors import StopRequested
from adapters.methods._asa import Asa
from adapters.spec import TrainConfig, TrialSpec
from adapters.training.peers import PeersError, Together
from adapters.trial import run_trial
from adapters.warm import Warm

CPU = torch.device("cpu")
METRICS = {
    "top1": lambda logits, labels: float((logits.argmax(1) == labels).mean()),
    "first": lambda logits, labels: float(logits[0, 0]),
}
# 37 images in batches of 12: the last one has a single image, and one process none.
SIZES = {"train": 37, "val": 15, "test": 9}


class Quiet:
    def __init__(self, stop_at=None):
        self.stop_at, self.steps = stop_at, 0

    def step(self, epoch, step, steps):
        self.steps += 0 < step < steps  # neither decoding nor evaluation
        if self.steps == self.stop_at:
            raise StopRequested(f"stopped at step {step}")

    def epoch(self, row):
        pass


class Memory:
    """A keeper in memory."""

    every_epochs = 1

    def __init__(self, kept=None):
        self.kept = kept

    def load(self):
        return self.kept

    def save(self, snapshot):
        copies = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}
        self.kept = dataclasses.replace(snapshot, tensors=copies)


def trial(method="lora", settings=None, **train):
    data = registry.dataset("shapes_location")
    return TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(**SIZES),
        method=method,
        method_config=registry.method(method).Config(**(settings or {})),
        train=TrainConfig(**({"epochs": 2, "batch_size": 12, "lr": 1e-3} | train)),
    )


def done(spec, **options):
    """The curve of a run, and what it trained."""
    trained = {}

    def keep(adapted):
        trained.update({n: p.detach().clone() for n, p in adapted.trainable_parameters.items()})

    options = {"observer": Quiet()} | options
    result = run_trial(spec, METRICS, warm=Warm(CPU), on_model=keep, **options)
    return [(r.split, r.loss, r.top1, r.grad_norm, r.metrics) for r in result.epochs], trained


def process(rank, task, size, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    torch.save(task(Together(), rank), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def together(task, folder, size=2):
    """What `task(peers, rank)` returns in each of so many processes."""
    multiprocessing.spawn(process, (task, size, folder), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


TRIALS = [
    (trial(), None),
    (trial("full", optimizer="sgd", clip_grad_norm=0.5, ema=0.9), 4),
    (trial(mixup=0.4, flip=True, random_crop=0.5, label_smoothing=0.1), 4),
    (
        trial(
            "adamss",
            {
                "total_rank": 12,
                "subspaces": 4,
                "subspace_rank": 1,
                "asa": Asa(target_subspaces=3, init_warmup=1, final_warmup=6, mask_interval=2),
            },
        ),
        None,
    ),
]


def _train_all(peers, rank):
    return [done(spec, micro_batch=micro, peers=peers) for spec, micro in TRIALS]


@pytest.mark.slow
def test_two_processes_come_to_the_result_of_one(tmp_path):
    first, second = together(_train_all, tmp_path)
    for (spec, _), (curve, trained), (others, copies) in zip(TRIALS, first, second, strict=True):
        alone, weights = done(spec)
        for own, theirs, reference in zip(curve, others, alone, strict=True):
            assert own[:3] == theirs[:3]
            assert own[0] == reference[0]
            assert own[1] == pytest.approx(reference[1], rel=1e-4)
            assert own[2] == reference[2]
            if own[0] == "train":
                assert own[3] == pytest.approx(reference[3], rel=1e-3)
            assert own[4] == pytest.approx(reference[4], rel=1e-4, abs=1e-4)
        for name, tensor in weights.items():
            assert torch.equal(trained[name], copies[name])
            torch.testing.assert_close(trained[name], tensor, rtol=0, atol=1e-4)


def _stop_and_go_on(peers, rank):
    keeper = Memory() if rank == 0 else None
    observer = Quiet(stop_at=3 if rank == 0 else None)
    with pytest.raises(StopRequested) as stop:
        done(trial(), peers=peers, observer=observer, keeper=keeper)
    return str(stop.value), done(trial(), peers=peers, keeper=keeper)


@pytest.mark.slow
def test_a_stop_in_the_first_process_stops_all_and_they_go_on_from_its_checkpoint(tmp_path):
    (said, (curve, weights)), (also, _) = together(_stop_and_go_on, tmp_path)
    assert said == also == "stopped at step 3"
    alone, reference = done(trial())
    assert [row[1] for row in curve] == pytest.approx([row[1] for row in alone], rel=1e-4)
    for name, tensor in reference.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-4)


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def _fail(peers, rank):
    heard = []
    for error, where in ((ValueError("ours"), 1), (OddError("this", "that"), 1)):

        def do(error=error, where=where):
            if rank == where:
                raise error

        try:
            peers.gather("step", do)
        except Exception as raised:  # noqa: BLE001
            heard.append((type(raised).__name__, str(raised)))
    return heard


def _small(peers, rank):
    return [task(peers, rank) for task in (_fail, _part, _gradients, _wishes)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """What the small tasks return, by task and process: starting processes takes most of the time."""
    return list(zip(*together(_small, tmp_path_factory.mktemp("small")), strict=True))


def test_an_error_of_one_process_is_raised_in_all(small):
    first, second = small[0]
    assert first == [("ValueError", "ours"), ("RuntimeError", "OddError: this and that")]
    assert second == [("ValueError", "ours"), ("OddError", "this and that")]


def _part(peers, rank):
    try:
        peers.gather("step" if rank else "end", lambda: None)
    except PeersError as error:
        return str(error)


def test_processes_at_different_places_are_noticed(small):
    said = "processes of one run are at different places: ['end', 'step']"
    assert list(small[1]) == [said, said]


def _gradients(peers, rank):
    all_have, one_has, none_has, frozen = (torch.nn.Parameter(torch.zeros(2)) for _ in range(4))
    frozen.requires_grad_(False)
    all_have.grad = torch.full((2,), rank + 1.0)
    if rank == 1:
        one_has.grad = torch.tensor([math.pi, 0.0])
    peers.sum_gradients([all_have, one_has, none_has, frozen])
    return [each.grad for each in (all_have, one_has, none_has, frozen)]


def test_gradients_are_added_up_and_what_has_none_gets_none(small):
    for both, one, none, frozen in small[2]:
        assert both.tolist() == [3.0, 3.0]
        assert one.tolist() == pytest.approx([math.pi, 0.0])
        assert none is None
        assert frozen is None


def _wishes(peers, rank):
    granted = []
    wishing = Together(wish=lambda: not granted, grant=lambda: granted.append(rank))
    for _ in range(3):
        wishing.gather("step", lambda: None)
    return granted


def test_what_the_first_process_wishes_for_all_do_at_the_same_place(small):
    assert list(small[3]) == [[0], [1]]


def _die(peers, rank):
    peers.gather("step", lambda: None)
    if rank == 1:
        os._exit(0)
    parameter = torch.nn.Parameter(torch.zeros(2))
    said = []
    for ask in (
        lambda: peers.gather("step", lambda: None),
        lambda: peers.broadcast(None),
        lambda: peers.sum_gradients([parameter]),
    ):
        with pytest.raises(PeersError) as caught:
            ask()
        said.append(str(caught.value))
    return said


def test_a_process_that_died_is_no_failure_of_the_run(tmp_path):
    multiprocessing.spawn(process, (_die, 2, tmp_path), nprocs=2)
    for said in torch.load(tmp_path / "0.pt", weights_only=False):
        assert said.startswith("a process of the run does not answer: ")
