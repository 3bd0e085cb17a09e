"""What every method promises, checked for each file in `adapters/methods/` on small ViTs.

A method may refuse a kind of ViT by a ValueError that names the method; it must take the plain one.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters import fitting, registry
from adapters.adapted import Adapted
from adapters.backbones._dims import dims_of
from tests.adapters.vits import EVAS, FITTING, small_eva

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "twelve_heads": {"num_heads": 12, "qkv_bias": False, "qk_norm": True},
    "registers": {"init_values": 0.5, "reg_tokens": 4},  # with LayerScale
    "average": {"global_pool": "avg"},
}
SHALLOW = {"depth": 1}  # compiling is slow
EVA_SHALLOW = "eva_split, shallow"
every_method = pytest.mark.parametrize("name", registry.names("methods"))
every_kind = pytest.mark.parametrize("kind", [*KINDS, *EVAS])


@cache
def base_vit(kind: str) -> Any:
    """A ViT of 16 patches, every tensor of it, biases and scales too, away from its usual start."""
    if kind in EVAS:
        return small_eva(kind)
    if kind == EVA_SHALLOW:
        return small_eva("eva_split", depth=1)
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 48, "depth": 2, "num_heads": 3}
    vit = VisionTransformer(num_classes=5, **sizes | (KINDS | {"shallow": SHALLOW})[kind])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return vit.eval()


def attach(name: str, kind: str = "plain", **settings: Any) -> Adapted:
    settings = FITTING.get(name, {}) | settings
    try:
        return adapters.attach(copy.deepcopy(base_vit(kind)), name, **settings)
    except ValueError as error:
        if kind in ("plain", "shallow") or name not in str(error):
            raise
        pytest.skip(f"refused: {error}")


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(2))


def perturb(adapted: Adapted) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.trainable_parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


def loss_of(vit: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(vit(images()).float(), torch.tensor([0, 2, 4]))


def elements(adapted: Adapted) -> int:
    return sum(parameter.numel() for parameter in adapted.adapter_parameters.values())


def check_count(name: str, adapted: Adapted, config: Any, kind: str) -> None:
    counted = registry.method(name).count(config, dims_of(base_vit(kind)))
    if registry.count_is_exact(name, config):
        assert elements(adapted) == counted
    else:
        assert 0 < elements(adapted) <= counted


@every_kind
@every_method
@torch.no_grad()
def test_the_start_is_as_near_to_the_base_as_declared(name: str, kind: str) -> None:
    logits, base_logits = attach(name, kind).vit.eval()(images()), base_vit(kind)(images())
    match registry.method(name).IDENTITY_AT_START:
        case "exact":
            assert torch.equal(logits, base_logits)
        case "close":
            torch.testing.assert_close(logits, base_logits, rtol=0.05, atol=0.05)
        case "no":
            assert not torch.equal(logits, base_logits)


@every_kind
@every_method
def test_the_named_tensors_and_the_head_train_and_nothing_else(name: str, kind: str) -> None:
    torch.manual_seed(0)  # of dropout
    adapted = attach(name, kind, seed=4)
    vit = adapted.vit.train()
    trained = adapted.trainable_parameters
    assert {n for n, p in vit.named_parameters() if p.requires_grad} == set(trained)
    assert set(adapted.head_parameters) == {"head.weight", "head.bias"}
    assert not set(adapted.adapter_parameters) & set(adapted.head_parameters)
    assert adapted.no_decay <= set(adapted.adapter_parameters)

    frozen = {n: t.clone() for n, t in vit.state_dict().items() if n not in trained}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    reached = set()
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(vit).backward()
        reached |= {n for n, p in trained.items() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    assert reached == set(trained)
    state = vit.state_dict()
    assert all(torch.equal(state[n], tensor) for n, tensor in frozen.items())


@every_kind
@every_method
def test_the_closed_form_counts_what_attach_returns(name: str, kind: str) -> None:
    config = registry.method(name).Config(**FITTING.get(name, {}))
    check_count(name, attach(name, kind), config, kind)


@pytest.mark.parametrize("kind", EVAS)
@every_method
def test_its_sizes_alone_tell_whether_a_vit_of_another_family_is_taken(
    name: str, kind: str
) -> None:
    settings, refused = FITTING.get(name, {}), False
    config, dims = registry.method(name).Config(**settings), dims_of(base_vit(kind))
    try:
        adapters.attach(copy.deepcopy(base_vit(kind)), name, **settings)
    except ValueError:
        refused = True
    with pytest.raises(ValueError, match=name) if refused else contextlib.nullcontext():
        fitting.check(name, config, dims)


@pytest.mark.parametrize("kind", ["plain", "eva_split"])
@every_method
@torch.no_grad()
def test_saved_and_reloaded_tensors_give_equal_logits(name: str, kind: str) -> None:
    trained = attach(name, kind, seed=5)
    perturb(trained)
    tensors = {n: p.detach() for n, p in trained.trainable_parameters.items()}
    file = safetensors.torch.save(tensors | trained.adapter_buffers)

    fresh = attach(name, kind, seed=6)
    result = fresh.vit.load_state_dict(safetensors.torch.load(file), strict=False)
    assert not result.unexpected_keys
    assert torch.equal(fresh.vit.eval()(images()), trained.vit.eval()(images()))


@every_method
def test_the_seed_alone_decides_the_start(name: str) -> None:
    torch.manual_seed(0)
    first = attach(name, seed=7).vit.state_dict()
    drawn = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(()), drawn), "attach drew from the global generator"
    again = attach(name, seed=7).vit.state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[n], again[n]) for n in first)


@every_method
@torch.no_grad()
def test_every_tensor_moves_with_the_model(name: str) -> None:
    adapted = attach(name)
    perturb(adapted)
    vit = adapted.vit.eval()
    expected = vit(images())
    doubled = vit.to(torch.float64)(images().double())
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), expected, rtol=1e-4, atol=1e-4)
    assert vit.to("meta")(images().double().to("meta")).is_meta


@every_kind
@every_method
@torch.no_grad()
def test_merged_equals_unmerged_and_unmerging_restores(name: str, kind: str) -> None:
    adapted = attach(name, kind)
    perturb(adapted)
    vit = adapted.vit.eval()
    if not registry.method(name).MERGEABLE:
        with pytest.raises(ValueError, match=name):
            adapted.merge()
        return
    logits = vit(images())
    state = {n: tensor.clone() for n, tensor in vit.state_dict().items()}

    torch.manual_seed(0)
    adapted.merge()
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(()), after), "merge drew from the global generator"
    plain = [(path, type(module)) for path, module in base_vit(kind).named_modules()]
    assert [(path, type(module)) for path, module in vit.named_modules()] == plain
    torch.testing.assert_close(vit(images()), logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="merged already"):
        adapted.merge()

    adapted.unmerge()
    assert vit.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[n]) for n, tensor in vit.state_dict().items())
    assert torch.equal(vit(images()), logits)
    with pytest.raises(ValueError, match="not merged"):
        adapted.unmerge()


@every_method
def test_it_trains_under_autocast(name: str) -> None:
    torch.manual_seed(0)
    adapted = attach(name)
    perturb(adapted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_of(adapted.vit.train()).backward()
        in_bf16 = adapted.vit.eval()(images()).float()
    torch.testing.assert_close(in_bf16, adapted.vit(images()), rtol=0.1, atol=0.1)
    for n, parameter in adapted.trainable_parameters.items():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None, n
        assert parameter.grad.isfinite().all(), n


@pytest.mark.parametrize("kind", ["shallow", EVA_SHALLOW])
@every_method
def test_it_compiles_into_one_graph(name: str, kind: str) -> None:
    adapted = attach(name, kind)
    perturb(adapted)
    vit = adapted.vit.eval()
    expected = vit(images())
    torch._dynamo.reset()
    logits = torch.compile(vit, backend="aot_eager", fullgraph=True)(images())
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    logits.sum().backward()
    assert all(p.grad is not None for p in adapted.trainable_parameters.values())


CANDIDATES: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (1, 2, 3, 4, 6, 9, 16),
    float: (0.5, 0.25, 2.0, 0.9, 0.0),
    tuple: (("k",), ("fc1",), ("proj",), (0,), (1,), (0.5, 0.5), (1, 2, 3)),
    type(None): (1, 0.5, True, (0,)),
}
"""What to try in place of a default of each type; those that a method refuses are passed over."""


def others(hint: Any, default: Any) -> list[Any]:
    literal = typing.get_origin(hint) is typing.Literal
    values = list(typing.get_args(hint) if literal else CANDIDATES[type(default)])
    for option in typing.get_args(hint):
        if dataclasses.is_dataclass(option):
            values += instances(option)
    return [value for value in values if value != default or type(value) is not type(default)]


def instances(settings: Any) -> Iterator[Any]:
    """Settings in settings, each field in turn at another value."""
    for field in dataclasses.fields(settings):
        for value in CANDIDATES.get(type(field.default), ()):
            with contextlib.suppress(ValueError):
                yield settings(**{field.name: value})


def observe(name: str, settings: dict[str, Any]) -> dict[str, Tensor] | None:
    """Everything of a perturbed model that a setting may show in; None if settings are refused."""
    try:
        adapted = attach(name, **settings)
    except ValueError:
        return None
    config = registry.method(name).Config(**FITTING.get(name, {}) | settings)
    check_count(name, adapted, config, "plain")
    parameters = adapted.adapter_parameters
    seen = {f"start of {n}": p.detach().clone() for n, p in parameters.items()}
    seen |= {f"no decay on {n}": torch.ones(()) for n in adapted.no_decay}
    seen |= {f"buffer {n}": tensor.clone() for n, tensor in adapted.adapter_buffers.items()}
    for path, hook in adapted.step_hooks.items():
        seen |= {f"state of {path} {n}": tensor for n, tensor in hook.hook_state().items()}
    perturb(adapted)
    torch.manual_seed(0)
    with torch.no_grad():
        return seen | {
            "evaluated": adapted.vit.eval()(images()),
            "training": adapted.vit.train()(images()),
        }


def contexts(name: str) -> Iterator[dict[str, Any]]:
    """The defaults, then each switch thrown: a setting may matter in one mode only."""
    yield {}
    config_type = registry.method(name).Config
    hints = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        if type(field.default) in (bool, str):
            yield from ({field.name: value} for value in others(hints[field.name], field.default))


FIELDS = [
    (name, field.name)
    for name in registry.names("methods")
    for field in dataclasses.fields(registry.method(name).Config)
]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_changes_something(name: str, field: str) -> None:
    config_type = registry.method(name).Config
    hint = typing.get_type_hints(config_type)[field]
    tries = itertools.product(contexts(name), others(hint, getattr(config_type(), field)))
    for context, value in tries:
        before, after = observe(name, context), observe(name, context | {field: value})
        if before is None or after is None:
            continue
        if before.keys() != after.keys() or any(
            not torch.equal(before[k], after[k]) for k in before
        ):
            return
    pytest.fail(f"no other value of {field} changed anything that can be seen")
