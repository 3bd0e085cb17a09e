"""A low-rank change multiplied as one weight gives what two multiplications give, and keeps less."""

import pytest
import torch
from torch import nn

import adapters
from adapters import folded, registry
from adapters.qkv import PROJECTIONS, add_delta, low_rank
from adapters.spec import TrainConfig, TrialSpec
from adapters.trial import run_trial
from adapters.warm import Warm
from tests.adapters.vits import perturb, small_vit

METRICS = {"top1": lambda logits, labels: float((logits.argmax(1) == labels).mean())}
METHODS = (
    "adamss",
    "cp",
    "fact_tk",
    "fact_tt",
    "httucker",
    "lora",
    "miss",
    "tlora",
    "tucker3",
    "vera",
)
SETTINGS = {"adamss": {"total_rank": 16}, "miss": {"rank": 16}, "vera": {"rank": 16}}
TOKENS, INPUTS, BLOCK = 150, 20, 24


def both(parts, p, q, rank, *, x_learns=True):
    """Output and gradients of x, down and up: in two multiplications, and in one."""
    generator = torch.Generator().manual_seed(p + q + rank)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    outputs = BLOCK * (3 if parts else p)
    base = nn.Linear(INPUTS, outputs).requires_grad_(False)
    given = drawn(5, TOKENS // 5, INPUTS), drawn(q, rank, INPUTS), drawn(p, BLOCK, rank)
    g_BNO, found = drawn(5, TOKENS // 5, outputs), []
    for fold in (False, True):
        x, down, up = (each.clone().requires_grad_() for each in given)
        x.requires_grad_(x_learns)
        assert folded.is_folded(x, base)
        if fold:
            y = folded.updated(x, base, down, up, parts)
        else:
            y = add_delta(base(x), low_rank(x, down, up), parts)
        y.backward(g_BNO)
        found.append([y, *(each.grad for each in (x, down, up) if each.requires_grad)])
    return found


@pytest.mark.parametrize("rank", [4, 40])
@pytest.mark.parametrize(
    ("parts", "p", "q"),
    [
        ((), 1, 1),
        ((), 4, 1),
        ((), 3, 3),
        (PROJECTIONS, 3, 1),
        (PROJECTIONS, 3, 3),
        (("q", "v"), 2, 1),
        (("q", "v"), 2, 2),
        (("k",), 1, 1),
    ],
)
def test_one_multiplication_gives_the_outputs_and_gradients_of_two(parts, p, q, rank):
    for two, one in zip(*both(parts, p, q, rank), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-3)


def test_an_input_that_needs_no_gradient_gets_none():
    two, one = both((), 1, 1, 4, x_learns=False)
    assert len(two) == len(one) == 3


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_the_same_either_way(name, monkeypatch):
    images = torch.randn(24, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    found = []
    for fold in (True, False):
        used = []
        monkeypatch.setattr(folded, "_Folded", _counting(used))
        if not fold:
            monkeypatch.setattr(folded, "_in_full_precision", lambda x: False)
        adapted = adapters.attach(small_vit(), name, seed=0, **SETTINGS.get(name, {}))
        perturb(adapted)
        logits = adapted.vit(images)
        logits.square().mean().backward()
        assert bool(used) == fold
        gradients = [each.grad for each in adapted.trainable_parameters.values()]
        found.append([logits, *gradients])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def _counting(used):
    class Counting(_FOLDED):
        @staticmethod
        def forward(ctx, *given):
            used.append(1)
            return _FOLDED.forward(ctx, *given)

    return Counting


_FOLDED = folded._Folded


def test_an_epoch_of_training_has_the_same_losses_and_accuracies(monkeypatch):
    data = registry.dataset("shapes_location")
    trial = TrialSpec(
        backbone="vit_tiny_fashion",
        dataset="shapes_location",
        dataset_config=data.Config(train=64, val=48, test=48),
        method="lora",
        method_config=registry.method("lora").Config(),
        train=TrainConfig(epochs=2, batch_size=24, lr=1e-2),
        seed=0,
    )
    warm, found = Warm(torch.device("cpu")), []
    for fold in (True, False):
        if not fold:
            monkeypatch.setattr(folded, "_in_full_precision", lambda x: False)
        found.append(run_trial(trial, METRICS, warm=warm, observer=_Deaf()))
    one, two = found
    assert one.best_epoch == two.best_epoch
    for a, b in zip(one.epochs, two.epochs, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4)
        assert a.top1 == pytest.approx(b.top1, abs=1e-3)


class _Deaf:
    def step(self, epoch, step, steps):
        pass

    def epoch(self, row):
        pass


@pytest.mark.parametrize("down_learns", [True, False])
def test_the_backward_pass_keeps_the_factors_and_the_input_or_what_is_less(down_learns):
    base = nn.Linear(64, 192).requires_grad_(False)
    x, down, up = (
        torch.randn(*s, requires_grad=True) for s in ((8, 50, 64), (1, 4, 64), (3, 64, 4))
    )
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    down.requires_grad_(down_learns)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        folded.updated(x, base, down, up, PROJECTIONS)
    own = {each.data_ptr() for each in (base.weight, down, up)}
    (other,) = [each for each in kept if each.data_ptr() not in own]
    assert other.shape == ((400, 64) if down_learns else (400, 4))
    assert (other.data_ptr() == x.data_ptr()) == down_learns


def is_folded(*, tokens=TOKENS, dtype=torch.float32, autocast=False, base=None):
    base = base or nn.Linear(INPUTS, BLOCK).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return folded.is_folded(torch.randn(1, tokens, INPUTS, dtype=dtype), base)


def watched():
    base = nn.Linear(INPUTS, BLOCK).requires_grad_(False)
    base.register_forward_hook(lambda *_: None)
    return base


@pytest.mark.parametrize(
    "told",
    [
        {"tokens": 5},  # fewer than what the sum of the weights costs
        {"dtype": torch.bfloat16},
        {"autocast": True},
        {"base": nn.Linear(INPUTS, BLOCK)},  # its weight is trained, too
        {"base": watched()},
    ],
    ids=lambda told: next(iter(told)),
)
def test_where_it_would_cost_more_or_lose_digits_there_are_two_multiplications(told):
    assert is_folded()
    assert not is_folded(**told)


def test_it_compiles_into_one_graph():
    base = nn.Linear(INPUTS, 3 * BLOCK).requires_grad_(False)
    x, down, up = (
        torch.randn(*s, requires_grad=True)
        for s in ((1, TOKENS, INPUTS), (1, 4, INPUTS), (3, BLOCK, 4))
    )

    def step(x, down, up):
        return folded.updated(x, base, down, up, PROJECTIONS).square().sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, down, up), step(x, down, up))
    found = torch.autograd.grad(compiled(x, down, up), (x, down, up))
    for ours, theirs in zip(
        found, torch.autograd.grad(step(x, down, up), (x, down, up)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
