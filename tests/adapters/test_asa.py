"""ASA against its worked numbers and budget table; which subspaces freeze, and that they stay put."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters.adapted import Adapted
from adapters.backbones._dims import dims_of
from adapters.methods import adamss
from adapters.methods._asa import Allocation, Asa, Schedule


class Holder:
    """Matrices of subspaces with one element in A and one in B, all at 1."""

    def __init__(self, *matrices: int) -> None:
        self.pairs = [
            [(nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))) for _ in range(n)]
            for n in matrices
        ]

    def subspaces(self) -> list[list[tuple[nn.Parameter, nn.Parameter]]]:
        return self.pairs

    @property
    def flat(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        return [pair for matrix in self.pairs for pair in matrix]

    def give(self, *gradients: float) -> None:
        """A gradient to each A, and zero to each B; frozen ones get none."""
        for (a, b), gradient in zip(self.flat, gradients, strict=True):
            if a.requires_grad:
                a.grad, b.grad = torch.full((1,), float(gradient)), torch.zeros(1)

    def trains(self) -> list[bool]:
        assert all(a.requires_grad == b.requires_grad for a, b in self.flat)
        return [a.requires_grad for a, _ in self.flat]


ALWAYS: dict[str, Any] = {"init_warmup": 0, "final_warmup": 10, "mask_interval": 10}


def allocation(holder: Holder, steps: int = 2000, **settings: Any) -> Allocation:
    made = Allocation(Asa(**settings), [holder])
    made.before_run(steps)
    return made


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=28, patch_size=7, embed_dim=48, depth=2, num_heads=3, num_classes=5
    )


def run(steps: int, lr: float = 0.05, decay: float = 0.0, **settings: Any) -> Adapted:
    """A small model after `steps` optimiser steps with ASA."""
    adapted = adapters.attach(vit(), "adamss", asa=Asa(**settings))
    optimizer = torch.optim.AdamW(adapted.trainable_parameters.values(), lr=lr, weight_decay=decay)
    (hook,) = adapted.step_hooks.values()
    hook.before_run(steps)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        images = torch.randn(4, 3, 28, 28, generator=generator)
        loss = nn.functional.cross_entropy(adapted.vit(images), torch.tensor([0, 1, 2, 3]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        hook.after_step(step)
    return adapted


# --- the schedule -------------------------------------------------------------------------------

BUDGETS = {
    (240, 120): (222, 191, 168, 150, 137, 128, 123, 121, 120, 120),
    (240, 50): (211, 163, 126, 97, 77, 64, 55, 51, 50, 50),
    (240, 5): (204, 145, 99, 64, 39, 22, 12, 7, 5, 5),
    (120, 60): (111, 95, 84, 75, 68, 64, 61, 60, 60, 60),
}


@pytest.mark.parametrize(("total", "target"), BUDGETS)
def test_the_budget_table(total: int, target: int) -> None:
    schedule = Asa().schedule(2000)
    found = tuple(schedule.budget(step, total, target) for step in range(100, 1001, 100))
    assert found == BUDGETS[total, target]
    assert schedule.budget(50, total, target) == total


def test_the_defaults_are_steps() -> None:
    assert Asa().schedule(1001) == Schedule(first=50, last=1000, interval=100, exponent=3.0)


@pytest.mark.parametrize("steps", [2, 3, 7, 20, 50, 99, 100, 313, 1000, 3125])
@pytest.mark.parametrize("interval", [0.01, 0.05, 0.1, 0.33, 1])
@pytest.mark.parametrize("last", [0.3, 0.5, 0.8, 0.999])
def test_a_fraction_ends_on_a_mask_inside_the_run(steps: int, interval: float, last: float) -> None:
    asa = Asa(init_warmup=0, final_warmup=last, mask_interval=interval)
    schedule = asa.schedule(steps)
    assert schedule.last % schedule.interval == 0
    assert 0 < schedule.last < steps
    assert abs(schedule.last - last * steps) <= max(schedule.interval, 1)
    assert schedule.budget(schedule.last, 20, 4) == 4


def test_fractions_of_a_run() -> None:
    asa = Asa(init_warmup=0.05, final_warmup=0.8, mask_interval=0.1)
    assert asa.schedule(200) == Schedule(first=10, last=160, interval=20, exponent=3.0)
    asa = Asa(init_warmup=10, final_warmup=0.8, mask_interval=25)
    assert asa.schedule(200) == Schedule(first=10, last=150, interval=25, exponent=3.0)


@pytest.mark.parametrize(
    ("settings", "steps", "says"),
    [
        (
            {},
            1000,
            "asa.final_warmup: 1000 given, with the last mask at step 1000 of a run of 1000",
        ),
        ({}, 500, "allowed: a last mask at step 499 or before, or a fraction of the run"),
        ({"final_warmup": 0.8}, 100, "asa.mask_interval: 100 given for a run of 100 steps"),
        (
            {"init_warmup": 100, "final_warmup": 0.8},
            130,
            "asa.init_warmup: 100 given, which is step",
        ),
        ({"init_warmup": 0.9}, 1200, "asa.init_warmup: 0.9 given, which is step 1080"),
        ({"init_warmup": 110, "final_warmup": 180}, 1200, "the last mask, which is at step 100"),
    ],
)
def test_a_schedule_that_does_not_fit_the_run_is_refused(
    settings: dict[str, Any], steps: int, says: str
) -> None:
    with pytest.raises(ValueError) as error:
        Asa(**settings).schedule(steps)
    assert says in str(error.value)
    with pytest.raises(ValueError) as error:
        adamss.check_run(adamss.Config(asa=Asa(**settings)), steps)
    assert says in str(error.value)
    with pytest.raises(ValueError) as error:
        Allocation(Asa(**settings, target_subspaces=1), [Holder(2)]).before_run(steps)
    assert says in str(error.value)


def test_a_last_mask_before_the_end_of_the_window_fits_a_shorter_run() -> None:
    assert Asa(final_warmup=1050).schedule(1001).last == 1050
    adamss.check_run(adamss.Config(), 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_subspaces": 0}, "target_subspaces: 0 given, allowed: an integer of at least 1"),
        ({"mask_interval": 0}, "mask_interval: 0 given, allowed: a whole number of steps"),
        ({"mask_interval": -5}, "mask_interval: -5 given"),
        ({"mask_interval": 1.5}, "mask_interval: 1.5 given"),
        ({"mask_interval": 0.1}, "mask_interval: 0.1 given with final_warmup 1000"),
        ({"init_warmup": 1000}, "init_warmup: 1000 given, allowed: less than final_warmup (1000)"),
        ({"init_warmup": 0.8, "final_warmup": 0.5}, "init_warmup: 0.8 given, allowed: less than"),
        ({"init_warmup": -1}, "init_warmup: -1 given"),
        ({"final_warmup": 0}, "final_warmup: 0 given"),
        ({"final_warmup": float("inf")}, "final_warmup: inf given"),
        ({"final_warmup": float("nan")}, "final_warmup: nan given"),
        ({"final_warmup": True}, "final_warmup: True given"),
        ({"importance_beta": 1.0}, "importance_beta: 1.0 given, allowed: 0 <= x < 1"),
        ({"uncertainty_beta": -0.1}, "uncertainty_beta: -0.1 given"),
        ({"schedule_exponent": 0.0}, "schedule_exponent: 0.0 given"),
        ({"scope": "model"}, "scope: 'model' given, allowed: global, per_matrix"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError) as error:
        Asa(**settings)
    assert says in str(error.value)


def test_a_number_of_steps_is_the_same_as_a_float() -> None:
    assert Asa(init_warmup=50.0, final_warmup=1000.0, mask_interval=100.0) == Asa()


@pytest.mark.parametrize(
    ("asa", "most"),
    [({"target_subspaces": 21}, "20 subspaces in the model"),
     ({"target_subspaces": 6, "scope": "per_matrix"}, "5 subspaces in each matrix")],
)  # fmt: skip
def test_a_target_above_the_number_of_subspaces_is_refused(asa: dict[str, Any], most: str) -> None:
    config = adamss.Config(asa=Asa(**asa))
    says = rf"asa.target_subspaces: \d+ given, allowed: at most the {most}"
    with pytest.raises(ValueError, match=says):
        adamss.count(config, dims_of(vit()))
    model = vit()
    with pytest.raises(ValueError, match=says):
        adapters.attach(model, "adamss", asa=Asa(**asa))
    assert not any("adapter" in name for name, _ in model.named_modules()), "nothing was changed"


# --- importance and masks -----------------------------------------------------------------------


def test_the_worked_numbers_of_importance_and_uncertainty() -> None:
    holder = Holder(2)
    asa = allocation(holder, target_subspaces=1, init_warmup=0)
    found = []
    for step, gradient in enumerate((0.1, -0.2, 0.05), start=1):
        holder.give(gradient, 0.0)
        asa.after_step(step)
        found += [asa.importance[0].item(), asa.uncertainty[0].item()]
    expected = [0.015, 0.015, 0.04275, 0.0405, 0.0438375, 0.0355125]
    assert found == pytest.approx(expected, rel=1e-5)
    assert asa.scores() == pytest.approx([0.00155678, 0.0], rel=1e-5)


def test_a_score_is_the_mean_over_a_plus_the_mean_over_b() -> None:
    a, b = nn.Parameter(torch.ones(1, 4)), nn.Parameter(torch.ones(2, 1))
    holder = Holder(1)
    holder.pairs = [[(a, b)]]
    asa = allocation(holder, target_subspaces=1, init_warmup=0)
    a.grad, b.grad = torch.tensor([[1.0, -2.0, 0.0, 3.0]]), torch.tensor([[4.0], [0.0]])
    asa.after_step(1)
    # (0.15 I)^2 for each element after one step.
    assert asa.scores() == pytest.approx([0.0225 * ((1 + 4 + 9) / 4 + 16 / 2)])


def test_exactly_the_budget_is_kept() -> None:
    holder = Holder(5)
    asa = allocation(holder, target_subspaces=3, **ALWAYS)
    holder.give(5, 4, 3, 2, 1)
    asa.after_step(10)
    assert holder.trains() == [True, True, True, False, False]
    assert asa.active_subspaces == 3


def test_of_equal_scores_the_first_are_kept() -> None:
    holder = Holder(2, 3)
    asa = allocation(holder, target_subspaces=3, **ALWAYS)
    holder.give(1, 2, 1, 1, 1)
    asa.after_step(10)
    assert holder.trains() == [True, True, True, False, False]


def test_the_target_is_global_or_that_of_each_matrix() -> None:
    found = {}
    for scope in ("global", "per_matrix"):
        holder = Holder(3, 3)
        asa = allocation(holder, target_subspaces=2, scope=scope, **ALWAYS)
        holder.give(1, 2, 3, 6, 5, 4)
        asa.after_step(10)
        found[scope] = holder.trains()
    assert found["global"] == [False, False, False, True, True, False]
    assert found["per_matrix"] == [False, True, True, True, True, False]


def test_frozen_is_for_good_and_has_no_gradient() -> None:
    holder = Holder(4)
    asa = allocation(holder, target_subspaces=1, init_warmup=0, final_warmup=20, mask_interval=10)
    holder.give(4, 3, 2, 1)
    asa.after_step(10)  # floor(1 + 3 / 8) = 1 of 4
    assert holder.trains() == [True, False, False, False]
    for a, b in holder.flat[1:]:
        assert a.grad is None
        assert b.grad is None
    holder.give(0, 9, 9, 9)
    asa.after_step(20)
    assert holder.trains() == [True, False, False, False]


def test_a_frozen_subspace_takes_no_place_from_one_that_trains() -> None:
    """Not even where nothing has a gradient, so that all are equal."""
    holder = Holder(4)
    times = {"init_warmup": 0, "final_warmup": 20, "mask_interval": 10, "schedule_exponent": 1.0}
    asa = allocation(holder, target_subspaces=2, **times)
    holder.give(1, 2, 3, 4)
    asa.after_step(10)
    assert holder.trains() == [False, True, True, True]
    holder.give(0, 0, 0, 0)
    asa.after_step(20)
    assert holder.trains() == [False, True, True, False]


def test_nothing_is_gathered_outside_the_window_nor_frozen_between_masks() -> None:
    holder = Holder(3)
    asa = allocation(holder, target_subspaces=1, init_warmup=5, final_warmup=15, mask_interval=10)
    for step, gathers in ((0, False), (4, False), (5, True), (9, True), (16, False), (20, False)):
        holder.give(3, 2, 1)
        before = asa.importance.clone()
        asa.after_step(step)
        assert bool((asa.importance != before).any()) == gathers
        assert holder.trains() == [True] * 3


def test_the_averages_start_again_after_every_mask() -> None:
    holder = Holder(3)
    asa = allocation(holder, target_subspaces=1, init_warmup=0, final_warmup=20, mask_interval=10)
    holder.give(3, 2, 1)
    asa.after_step(9)
    assert asa.importance.any()
    asa.after_step(10)
    assert not asa.importance.any()
    assert not asa.uncertainty.any()


@pytest.mark.parametrize("total", [20, 60])
def test_a_window_that_ends_between_two_masks_only_approaches_the_target(total: int) -> None:
    """The last mask is at 10, where c is still 1/3."""
    holder = Holder(total)
    asa = allocation(holder, target_subspaces=2, init_warmup=0, final_warmup=15, mask_interval=10)
    for step in range(30):
        holder.give(*range(total))
        asa.after_step(step)
    assert asa.active_subspaces == 2 + (total - 2) // 27


# --- on a model ---------------------------------------------------------------------------------

SHORT: dict[str, Any] = {"init_warmup": 1, "final_warmup": 6, "mask_interval": 2}


def active(adapted: Adapted) -> Tensor:
    (hook,) = adapted.step_hooks.values()
    return hook.hook_state()["active"]


@pytest.mark.parametrize("target", [1, 2, 7, 19, 20])
def test_a_run_ends_with_exactly_the_target(target: int) -> None:
    adapted = run(8, target_subspaces=target, **SHORT)
    (hook,) = adapted.step_hooks.values()
    assert hook.active_subspaces == target
    trains = [p.requires_grad for p in adapted.adapter_parameters.values()]
    assert sum(trains) == 2 * target


def test_a_run_per_matrix_ends_with_the_target_in_each() -> None:
    adapted = run(8, target_subspaces=2, scope="per_matrix", **SHORT)
    assert active(adapted).reshape(4, 5).sum(1).tolist() == [2, 2, 2, 2]


def test_a_frozen_subspace_keeps_its_values_and_goes_on_contributing() -> None:
    """Weight decay does not touch it either."""
    adapted = run(8, decay=0.5, target_subspaces=3, **SHORT)
    frozen = {n: p for n, p in adapted.adapter_parameters.items() if not p.requires_grad}
    assert len(frozen) == 2 * 17
    at_end = {n: p.detach().clone() for n, p in frozen.items()}
    optimizer = torch.optim.AdamW(adapted.trainable_parameters.values(), lr=0.1, weight_decay=0.5)
    images = torch.randn(4, 3, 28, 28)
    for _ in range(3):
        optimizer.zero_grad()
        adapted.vit(images).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(p, at_end[n]) for n, p in frozen.items())

    with torch.no_grad():
        before = adapted.vit(images)
        for name, parameter in frozen.items():
            if ".B." in name:
                parameter.zero_()
        assert not torch.allclose(adapted.vit(images), before, atol=1e-3)


def test_a_model_with_frozen_subspaces_merges_and_unmerges() -> None:
    adapted = run(8, target_subspaces=3, **SHORT)
    plain = {name for name, _ in vit().named_modules()}
    images = torch.randn(2, 3, 28, 28)
    at_end = active(adapted)
    with torch.no_grad():
        logits = adapted.vit(images)
    adapted.merge()
    assert {name for name, _ in adapted.vit.named_modules()} == plain
    torch.testing.assert_close(adapted.vit(images), logits, rtol=1e-5, atol=1e-5)
    adapted.unmerge()
    assert torch.equal(adapted.vit(images), logits)
    assert torch.equal(active(adapted), at_end)


def test_a_saved_model_holds_nothing_of_asa() -> None:
    with_asa = adapters.attach(vit(), "adamss", asa=Asa(target_subspaces=3))
    without = adapters.attach(vit(), "adamss")
    assert with_asa.vit.state_dict().keys() == without.vit.state_dict().keys()
    assert with_asa.adapter_buffers.keys() == without.adapter_buffers.keys()
    assert not without.step_hooks


def test_the_state_of_asa_moves_with_the_model() -> None:
    adapted = run(3, target_subspaces=3, init_warmup=0, final_warmup=2, mask_interval=1)
    (hook,) = adapted.step_hooks.values()
    adapted.vit.to("meta")
    assert all(tensor.is_meta for tensor in hook.hook_state().values())


CHANGES: dict[str, Any] = {
    "target_subspaces": 9,
    "scope": "per_matrix",
    "init_warmup": 4,
    "final_warmup": 8,
    "mask_interval": 3,
    "importance_beta": 0.1,
    "uncertainty_beta": 0.1,
    "schedule_exponent": 0.5,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Asa)])
def test_every_setting_changes_what_happens(field: str) -> None:
    def seen(**settings: Any) -> list[float]:
        holder = Holder(4, 6)
        base = {"target_subspaces": 2, "init_warmup": 1, "final_warmup": 6, "mask_interval": 2}
        asa = allocation(holder, **base | settings)
        generator, found = torch.Generator().manual_seed(0), []
        for step in range(10):
            holder.give(*torch.rand(10, generator=generator).tolist())
            asa.after_step(step)
            found += [*asa.scores(), *holder.trains()]
        return found

    assert seen(**{field: CHANGES[field]}) != seen()
