"""FacT against its formulas written out, its starts and its dropout."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import adapters
from adapters import registry
from adapters.adapted import Adapted
from adapters.backbones._dims import dims_of


@pytest.mark.parametrize("name", ["fact_tk", "fact_tt"])
def test_fact_refuses_another_mlp_than_four_times_the_width(
    name: str, small_vit: Callable[..., VisionTransformer]
) -> None:
    vit = small_vit(mlp_ratio=2)
    with pytest.raises(ValueError, match=rf"^{name}: fc1 with .*\(24, 48\).*given.*\(24, 96\)"):
        adapters.attach(vit, name)
    with pytest.raises(ValueError, match=rf"^{name}: fc1"):
        registry.method(name).count(registry.method(name).Config(), dims_of(vit))


PATHS = {"qkv": "attn.qkv", "o": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def fact_deltas(
    u_rd: Tensor, v_dr: Tensor, cores: dict[str, Tensor], scale: float
) -> dict[str, Tensor]:
    """The increments of one block's weights, written out tile by tile."""
    r = len(u_rd)
    f1, f2 = cores["fc1"], cores["fc2"]
    tile = lambda core: scale * v_dr @ core @ u_rd  # noqa: E731
    return {
        "attn.qkv": torch.cat([tile(cores[name]) for name in "qkv"]),
        "attn.proj": tile(cores["o"]),
        "mlp.fc1": torch.cat([tile(f1[j * r : (j + 1) * r]) for j in range(4)]),
        "mlp.fc2": torch.cat([tile(f2[:, j * r : (j + 1) * r]) for j in range(4)], dim=1),
    }


def tk_cores(c_rrr: Tensor, p: Tensor, block: int) -> dict[str, Tensor]:
    """The cores of one block, element by element."""
    r = len(c_rrr)
    s = torch.zeros(r, r, 12, dtype=c_rrr.dtype)
    for a in range(r):
        for b in range(r):
            for m in range(12):
                s[a, b, m] = sum(c_rrr[a, b, c] * p[c, 12 * block + m] for c in range(r))
    cores = {name: s[:, :, m].T for m, name in enumerate("qkvo")}
    f1, f2 = torch.zeros(4 * r, r, dtype=s.dtype), torch.zeros(r, 4 * r, dtype=s.dtype)
    for a in range(r):
        for b in range(r):
            for m in range(4):
                f1[4 * b + m, a] = s[a, b, 4 + m]
                f2[a, 4 * b + m] = s[a, b, 8 + m]
    return cores | {"fc1": f1, "fc2": f2}


def tt_cores(vit: nn.Module, block: int, rank: int) -> dict[str, Tensor]:
    own = {
        name: vit.get_parameter(f"blocks.{block}.{path}.adapter.core").detach()
        for name, path in PATHS.items()
    }
    return own | dict(zip("qkv", own["qkv"].split(rank), strict=True))


@pytest.mark.parametrize("name", ["fact_tk", "fact_tt"])
@torch.no_grad()
def test_fact_adds_its_increments_to_the_weights(
    name: str,
    small_vit: Callable[..., VisionTransformer],
    perturbed: Callable[..., Adapted],
    images: Tensor,
) -> None:
    base = small_vit().double()
    adapted = perturbed(name, copy.deepcopy(base), rank=2, scale=0.5)
    vit = adapted.vit.double()
    shared = vit.get_submodule(name)
    logits = vit(images.double())
    for n, block in enumerate(base.blocks):
        cores = tk_cores(shared.C, shared.P, n) if name == "fact_tk" else tt_cores(vit, n, rank=2)
        for path, increment in fact_deltas(shared.U, shared.V, cores, 0.5).items():
            block.get_submodule(path).weight += increment
    expected = base(images.double())
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    adapted.merge()
    torch.testing.assert_close(vit(images.double()), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_both_forms_of_fact_agree_on_the_same_cores(
    small_vit: Callable[..., VisionTransformer], perturbed: Callable[..., Adapted], images: Tensor
) -> None:
    tk = perturbed("fact_tk", rank=3).vit
    tt = adapters.attach(small_vit(), "fact_tt", rank=3).vit.eval()
    tt.fact_tt.U.copy_(tk.fact_tk.U)
    tt.fact_tt.V.copy_(tk.fact_tk.V)
    for n in range(3):
        cores = tk_cores(tk.fact_tk.C, tk.fact_tk.P, n)
        cores["qkv"] = torch.cat([cores[name] for name in "qkv"])
        for target, path in PATHS.items():
            tt.get_parameter(f"blocks.{n}.{path}.adapter.core").copy_(cores[target])
    torch.testing.assert_close(tt(images), tk(images), rtol=1e-5, atol=1e-5)


def test_fact_starts_as_declared() -> None:
    vit = timm.create_model("vit_tiny_patch16_224")
    tk = adapters.attach(copy.deepcopy(vit), "fact_tk").adapter_parameters
    tt = adapters.attach(vit, "fact_tt").adapter_parameters
    assert set(tk) == {f"fact_tk.{tensor}" for tensor in "UVCP"}  # once, not once per block
    assert not tk["fact_tk.V"].any()
    assert not tt["fact_tt.V"].any()
    bounds = {"fact_tk.C": 0.21650635, "fact_tk.P": 0.19867986, "fact_tk.U": 192**-0.5}
    bounds = {name: (tk[name], bound) for name, bound in bounds.items()}
    for path, fan_in in (("attn.qkv", 8), ("attn.proj", 8), ("mlp.fc1", 8), ("mlp.fc2", 32)):
        name = f"blocks.3.{path}.adapter.core"
        bounds[name] = (tt[name], fan_in**-0.5)
    for name, (tensor, bound) in bounds.items():
        assert 0.9 * bound < tensor.abs().max().item() <= bound, name
        assert tensor.std().item() == pytest.approx(bound / 3**0.5, rel=0.15), name


@pytest.mark.parametrize("name", ["fact_tk", "fact_tt"])
def test_fact_can_start_as_in_the_study(name: str) -> None:
    vit = timm.create_model("vit_tiny_patch16_224")
    parameters = adapters.attach(vit, name, rank=16, init="study").adapter_parameters
    for path, parameter in parameters.items():
        if path not in ("fact_tk.C", "fact_tk.P"):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), path


@torch.no_grad()
def test_fact_drops_between_core_and_v(perturbed: Callable[..., Adapted]) -> None:
    """With rank 1 a dropped component is a whole tile of one token's update."""
    adapted = perturbed("fact_tt", rank=1, dropout=0.5)
    qkv = adapted.vit.blocks[0].attn.qkv
    x = torch.randn(50, 1, 24, generator=torch.Generator().manual_seed(0))
    kept = qkv.eval()(x) - qkv.base(x)
    torch.manual_seed(0)
    ratio = (qkv.train()(x) - qkv.base(x)) / kept
    tiles = ratio.reshape(50, 3, 24)
    assert torch.allclose(tiles, tiles[..., :1].expand_as(tiles), atol=1e-2)
    assert set(tiles.mean(-1).round().flatten().tolist()) == {0.0, 2.0}
