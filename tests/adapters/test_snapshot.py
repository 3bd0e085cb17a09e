"""What a snapshot holds of a model and its optimiser, and what putting it into another does."""

import pytest
import torch
from torch import nn

from adapters.api import attach
from adapters.checkpoint import digest
from adapters.errors import CheckpointError
from adapters.training import snapshot
from adapters.warm import Warm


class Freezing(nn.Module):
    """A module with a step hook's state, as methods that choose subspaces have."""

    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(2)

    active_subspaces = None

    def before_run(self, steps):
        pass

    def after_step(self, step):
        pass

    def hook_state(self):
        return {"seen": self.seen}

    def load_hook_state(self, state):
        self.seen = state["seen"]


@pytest.fixture(scope="module")
def warm():
    return Warm(torch.device("cpu"))


def hooked(warm):
    vit = warm.backbone("vit_tiny_fashion")
    vit.hooked = Freezing()
    return attach(vit, "lora", rank=2)


def test_frozen_parameters_and_the_state_of_hooks_come_back(warm):
    first, second = hooked(warm), hooked(warm)
    name, parameter = next(iter(first.adapter_parameters.items()))
    parameter.requires_grad_(False)
    first.vit.hooked.seen += 3
    optimizers = [torch.optim.AdamW(a.trainable_parameters.values()) for a in (first, second)]
    snapshot.put(snapshot.take(first, optimizers[0]), second, optimizers[1])
    trained = {n for n, p in second.trainable_parameters.items() if p.requires_grad}
    assert trained == second.trainable_parameters.keys() - {name}
    assert torch.equal(second.vit.hooked.seen, torch.full((2,), 3.0))


def test_buffers_that_the_config_would_draw_otherwise_come_back(warm):
    first, second = (
        attach(warm.backbone("vit_tiny_fashion"), "vera", projection_seed=n) for n in (1, 2)
    )
    optimizers = [torch.optim.SGD(a.trainable_parameters.values()) for a in (first, second)]
    wanted = digest(first.adapter_buffers)
    assert digest(second.adapter_buffers) != wanted
    snapshot.put(snapshot.take(first, optimizers[0]), second, optimizers[1])
    assert digest(second.adapter_buffers) == wanted


def test_a_run_that_goes_on_leaves_the_snapshot_as_it_was(warm):
    first, second = (attach(warm.backbone("vit_tiny_fashion"), "lora") for _ in range(2))
    optimizers = [torch.optim.Adam(a.trainable_parameters.values()) for a in (first, second)]

    def step(adapted, optimizer):
        adapted.vit(torch.ones(1, 3, 28, 28)).sum().backward()
        optimizer.step()

    step(first, optimizers[0])
    taken = snapshot.take(first, optimizers[0])
    before = digest(taken)
    snapshot.put(taken, second, optimizers[1])
    step(second, optimizers[1])
    assert digest(taken) == before


def test_the_snapshot_of_another_model_is_refused_and_changes_nothing(warm):
    kept, model = (attach(warm.backbone("vit_tiny_fashion"), "lora", rank=r) for r in (2, 3))
    optimizers = [torch.optim.SGD(a.trainable_parameters.values()) for a in (kept, model)]
    before = {n: p.detach().clone() for n, p in model.trainable_parameters.items()}
    with pytest.raises(CheckpointError, match=r"trained tensor .*: shape \(.*2.*\) in the check"):
        snapshot.put(snapshot.take(kept, optimizers[0]), model, optimizers[1])
    assert all(torch.equal(before[n], p) for n, p in model.trainable_parameters.items())
