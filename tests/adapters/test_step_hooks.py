"""What the training loop does for a module of a method that takes part in training."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters.adapted import Adapted
from adapters.data.splits import SplitConfig
from adapters.method import StepHook
from adapters.spec import TrainConfig
from adapters.training.fit import Fitter
from adapters.warm import Pixels


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=28, patch_size=7, embed_dim=48, depth=2, num_heads=3, num_classes=5
    )


def images(count: int = 20) -> Pixels:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, 28, 28), dtype=torch.uint8, generator=generator)
    return Pixels(pixels, torch.arange(count) % 5)


def normalise(pixels: Tensor) -> Tensor:
    return pixels.float() / 128 - 1


def fitter(adapted: Adapted, count: int = 20, **train: Any) -> Fitter:
    config = TrainConfig(**{"epochs": 3, "batch_size": 8, "lr": 1e-2} | train)
    return Fitter(adapted, images(count), train=config, seed=0, normalise=normalise)  # type: ignore[arg-type]


def train(adapted: Adapted, epochs: int = 3) -> Fitter:
    made = fitter(adapted, epochs=epochs)
    for epoch in range(1, epochs + 1):
        made.epoch(epoch, lambda step, steps: None)
    return made


class Watching(nn.Module):
    """A step hook that notes what it is told, and a parameter as it is then."""

    def __init__(self, watched: nn.Parameter) -> None:
        super().__init__()
        self.told: list[tuple[str, int]] = []
        self.seen: list[tuple[Tensor, Tensor | None]] = []
        self._watched = (watched,)

    @property
    def active_subspaces(self) -> None:
        return None

    def before_run(self, steps: int) -> None:
        self.told.append(("before_run", steps))

    def after_step(self, step: int) -> None:
        self.told.append(("after_step", step))
        (watched,) = self._watched
        self.seen.append((watched.detach().clone(), watched.grad))

    def hook_state(self) -> dict[str, Tensor]:
        return {}

    def load_hook_state(self, state: dict[str, Tensor]) -> None:
        assert not state


@pytest.fixture
def watched() -> tuple[Adapted, Watching]:
    adapted = adapters.attach(vit(), "lora")
    hook = Watching(adapted.head_parameters["head.weight"])
    adapted.vit.add_module("watching", hook)
    return adapted, hook


def test_a_module_is_found_by_what_it_offers(watched: tuple[Adapted, Watching]) -> None:
    adapted, hook = watched
    assert adapted.step_hooks == {"watching": hook}
    assert not adapters.attach(vit(), "lora").step_hooks
    found = adapters.attach(vit(), "adamss", asa={"target_subspaces": 3}).step_hooks
    assert list(found) == ["asa"]
    assert isinstance(found["asa"], StepHook)


def test_it_hears_the_steps_of_the_run_once_and_then_every_step(
    watched: tuple[Adapted, Watching],
) -> None:
    adapted, hook = watched
    train(adapted)
    assert hook.told == [("before_run", 9), *(("after_step", step) for step in range(9))]


def test_it_is_called_after_the_update_and_with_that_steps_gradients(
    watched: tuple[Adapted, Watching],
) -> None:
    adapted, hook = watched
    before = adapted.head_parameters["head.weight"].detach().clone()
    made = fitter(adapted, epochs=1, optimizer="sgd", schedule="constant", weight_decay=0.0)
    made.epoch(1, lambda step, steps: None)
    momentum = torch.zeros_like(before)
    for after, gradient in hook.seen:
        assert gradient is not None
        momentum = 0.9 * momentum + gradient
        torch.testing.assert_close(after, before - 1e-2 * momentum)
        before = after


def test_a_run_of_the_wrong_length_is_refused_before_its_first_step() -> None:
    adapted = adapters.attach(vit(), "adamss", asa={"target_subspaces": 3})
    with pytest.raises(ValueError, match=r"asa.mask_interval: 100 given for a run of 9 steps"):
        fitter(adapted)


@pytest.mark.parametrize("fit", ["train", "train+val"])
@pytest.mark.parametrize("sizes", [(16, 4), (17, 7), (24, 1)])
def test_the_steps_of_a_run_are_known_before_it_loads_anything(
    watched: tuple[Adapted, Watching], fit: str, sizes: tuple[int, int]
) -> None:
    adapted, hook = watched
    data = SplitConfig(train=sizes[0], val=sizes[1])
    settings = {"epochs": 3, "batch_size": 8, "fit": fit, "select_epoch": "last_epoch"}
    fitter(adapted, sum(sizes) if fit == "train+val" else sizes[0], **settings)
    assert hook.told == [("before_run", TrainConfig(**settings).steps(data))]


ASA = {"target_subspaces": 4, "init_warmup": 0, "final_warmup": 0.7, "mask_interval": 0.2}


def test_the_gradient_norm_is_that_of_what_still_trains() -> None:
    adapted = adapters.attach(vit(), "adamss", asa=ASA)
    made = train(adapted, epochs=4)
    last = made.epoch(4, lambda step, steps: None)
    norms = [p.grad.norm() for p in adapted.trainable_parameters.values() if p.grad is not None]
    assert len(norms) == 2 * 4 + 2
    assert last.grad_norm is not None
    assert 0 < last.grad_norm < float("inf")


def test_an_interrupted_run_goes_on_bit_for_bit() -> None:
    """Trained tensors, optimiser and hook state are all that a checkpoint has to hold."""
    whole = adapters.attach(vit(), "adamss", asa=ASA)
    train(whole, epochs=4)

    first = adapters.attach(vit(), "adamss", asa=ASA)
    made = fitter(first, epochs=4)
    for epoch in (1, 2):
        made.epoch(epoch, lambda step, steps: None)
    tensors = {n: p.detach().clone() for n, p in first.trainable_parameters.items()}
    state = {path: hook.hook_state() for path, hook in first.step_hooks.items()}
    assert 4 < first.step_hooks["asa"].active_subspaces < 20, "in the middle of the schedule"  # type: ignore[operator]
    assert state["asa"]["importance"].any(), "and between two masks"

    second = adapters.attach(vit(), "adamss", asa=ASA, seed=9)
    resumed = fitter(second, epochs=4)
    second.vit.load_state_dict(tensors, strict=False)
    for path, hook in second.step_hooks.items():
        hook.load_hook_state(state[path])
    resumed.optimizer.load_state_dict(copy.deepcopy(made.optimizer.state_dict()))
    for epoch in (3, 4):
        made.epoch(epoch, lambda step, steps: None)
        resumed.epoch(epoch, lambda step, steps: None)

    for other in (first, second):
        assert other.step_hooks["asa"].active_subspaces == 4
        for name, tensor in whole.step_hooks["asa"].hook_state().items():
            assert torch.equal(other.step_hooks["asa"].hook_state()[name], tensor)
        for name, parameter in whole.trainable_parameters.items():
            assert torch.equal(other.trainable_parameters[name], parameter), name
            assert other.trainable_parameters[name].requires_grad == parameter.requires_grad


def test_a_hook_state_is_a_copy() -> None:
    adapted = adapters.attach(vit(), "adamss", asa=ASA)
    made = fitter(adapted)
    state = adapted.step_hooks["asa"].hook_state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    made.epoch(1, lambda step, steps: None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
