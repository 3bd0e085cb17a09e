"""Methods of the OSU study against their formulas, written out for one plain ViT in float64.

`reference` is a ViT made of tensor algebra alone. A method is an `edit` of what flows at named
sites of it; the edits read the trained tensors of the model under test and share no code with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm

import adapters
from adapters import registry

WIDTH, DEPTH, HEADS, PATCH = 24, 3, 3, 7
Edit = Callable[..., Tensor]
P = dict[str, Tensor]


@cache
def base_vit() -> VisionTransformer:
    """With LayerScale, and every tensor of it, biases too, away from its usual start."""
    sizes = {"img_size": 28, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH}
    vit = VisionTransformer(num_heads=HEADS, num_classes=5, init_values=0.5, **sizes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return vit.double().eval()


def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 28, 28, generator=generator, dtype=torch.float64)


def attach(name: str, **settings: Any) -> adapters.Adapted:
    """`name` on a copy of the ViT, in float64, every trained tensor of it away from its start."""
    adapted = adapters.attach(copy.deepcopy(base_vit()), name, **settings)
    adapted.vit.double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.adapter_parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return adapted


def own(adapted: adapters.Adapted) -> P:
    return {name: p.detach() for name, p in adapted.adapter_parameters.items()}


def norm(x: Tensor, p: P, path: str) -> Tensor:
    return layer_norm(x, (x.shape[-1],), p[f"{path}.weight"], p[f"{path}.bias"], 1e-6)


def linear(x: Tensor, p: P, path: str) -> Tensor:
    return x @ p[f"{path}.weight"].T + p[f"{path}.bias"]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, N, d) each: softmax attention, head by head."""
    heads = zip(*(tensor.chunk(HEADS, dim=-1) for tensor in (q, k, v)), strict=True)
    size = (WIDTH // HEADS) ** 0.5
    return torch.cat([(q @ k.mT / size).softmax(-1) @ v for q, k, v in heads], dim=-1)


def same(site: str, value: Tensor, **_: Any) -> Tensor:
    return value


def reference(p: P, edit: Edit = same) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the tokens that enter each block and the final norm."""
    x = conv2d(images(), p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=PATCH)
    x = edit("patch", x.flatten(2).mT)
    x = torch.cat([p["cls_token"].expand(len(x), -1, -1), x], dim=1) + p["pos_embed"]
    stream = [x]
    for i in range(DEPTH):
        at = f"blocks.{i}"
        x = edit(f"{at}.in", x)
        n = edit(f"{at}.norm1", norm(x, p, f"{at}.norm1"))
        q, k, v = edit(f"{at}.attn.qkv", linear(n, p, f"{at}.attn.qkv")).chunk(3, dim=-1)
        a = edit(f"{at}.attn.proj", linear(attention(q, k, v), p, f"{at}.attn.proj"))
        x = x + edit(f"{at}.attn", p[f"{at}.ls1.gamma"] * a, stream=x, normed=n)
        n = edit(f"{at}.norm2", norm(x, p, f"{at}.norm2"))
        h = gelu(edit(f"{at}.mlp.fc1", linear(n, p, f"{at}.mlp.fc1")))
        m = edit(f"{at}.mlp.fc2", linear(h, p, f"{at}.mlp.fc2"))
        x = x + edit(f"{at}.mlp", p[f"{at}.ls2.gamma"] * m, stream=x, normed=n)
        x = edit(f"{at}.out", x)
        stream.append(x)
    return linear(edit("norm", norm(x, p, "norm"))[:, 0], p, "head"), stream


def bottleneck(z: Tensor, t: P, path: str, scale: float | Tensor) -> Tensor:
    return scale * linear(linear(z, t, f"{path}.down").relu(), t, f"{path}.up")


def adapter_edit(t: P, scale: float, source: str) -> Edit:
    def edit(site: str, value: Tensor, **context: Tensor) -> Tensor:
        path = f"{site}_adapter"
        if f"{path}.down.weight" not in t:
            return value
        z = context.get(source, value)
        return value + bottleneck(z, t, path, t.get(f"{path}.scale", scale))

    return edit


def convolution(u: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """3 x 3 over (B, G, G, r), one tap after the other."""
    side = u.shape[1]
    padded = torch.zeros(len(u), side + 2, side + 2, u.shape[-1], dtype=u.dtype)
    padded[:, 1:-1, 1:-1] = u
    taps = [
        padded[:, y : y + side, x : x + side] @ kernel[:, :, y, x].T
        for y in range(3)
        for x in range(3)
    ]
    return torch.stack(taps).sum(0) + bias


def quick(u: Tensor) -> Tensor:
    return u / (1 + (-1.702 * u).exp())


def convpass_edit(t: P) -> Edit:
    def edit(site: str, value: Tensor, **context: Tensor) -> Tensor:
        path = f"{site}_adapter"
        if f"{path}.down.weight" not in t:
            return value
        kernel, bias = t[f"{path}.conv.weight"], t[f"{path}.conv.bias"]
        u = quick(linear(context["normed"], t, f"{path}.down"))
        token = convolution(u[:, None, :1], kernel, bias).flatten(1, 2)
        patches = convolution(u[:, 1:].reshape(len(u), 4, 4, -1), kernel, bias).flatten(1, 2)
        return value + 10 * linear(quick(torch.cat([token, patches], 1)), t, f"{path}.up")

    return edit


def repadapter_edit(t: P, scale: float, groups: int) -> Edit:
    def edit(site: str, value: Tensor, **_: Tensor) -> Tensor:
        path = site.replace("norm1", "attn.qkv.adapter").replace("norm2", "mlp.fc1.adapter")
        if f"{path}.down" not in t:
            return value
        h = value @ t[f"{path}.down"].T + t[f"{path}.down_bias"]
        up, width, r = t[f"{path}.up"], WIDTH // groups, h.shape[-1] // groups
        parts = [
            h[..., k * r : (k + 1) * r] @ up[k * width : (k + 1) * width].T for k in range(groups)
        ]
        return value + scale * (torch.cat(parts, -1) + t[f"{path}.up_bias"])

    return edit


def ssf_edit(t: P) -> Edit:
    def edit(site: str, value: Tensor, **_: Tensor) -> Tensor:
        for path in ("patch_embed.proj" if site == "patch" else site, f"{site}.adapter"):
            if f"{path}.scale" in t:
                return t[f"{path}.scale"] * value + t[f"{path}.shift"]
        return value

    return edit


def difffit_edit(t: P) -> Edit:
    def edit(site: str, value: Tensor, **_: Tensor) -> Tensor:
        linear_name = {"attn": "attn.proj", "mlp": "mlp.fc2"}.get(site.rpartition(".")[2])
        at = site.rpartition(".")[0]
        return value if linear_name is None else t[f"{at}.{linear_name}.adapter.scale"][0] * value

    return edit


def prompts_edit(t: P, dropped: dict[str, int]) -> Edit:
    def edit(site: str, value: Tensor, **_: Tensor) -> Tensor:
        at, _, what = site.rpartition(".")
        if what == "in" and f"{at}.prompts" in t:
            return torch.cat([t[f"{at}.prompts"].expand(len(value), -1, -1), value], 1)
        return value[:, dropped.get(at, 0) :] if what == "out" else value

    return edit


EVERY, FIRST, FINAL = (
    {f"blocks.{i}": 4 for i in blocks} for blocks in (range(DEPTH), (0,), (DEPTH - 1,))
)
FOUR = {"prompts": 4}
FORMULAS: list[tuple[str, dict[str, Any], Callable[[P], Edit]]] = [
    ("adaptformer", {}, lambda t: adapter_edit(t, 0.1, "stream")),
    ("adapter", {"bottleneck": 3}, lambda t: adapter_edit(t, 0.1, "stream")),
    ("pfeiffer", {"scale": 0.5}, lambda t: adapter_edit(t, 0.5, "output")),
    ("pfeiffer", {"scale": "learned"}, lambda t: adapter_edit(t, 0, "output")),
    ("adapter_zero", {}, lambda t: adapter_edit(t, 1, "output")),
    ("adapter", {"placement": "pfeiffer"}, lambda t: adapter_edit(t, 0.1, "output")),
    ("houlsby", {}, lambda t: adapter_edit(t, 1, "output")),
    ("adapter", {"placement": "houlsby"}, lambda t: adapter_edit(t, 0.1, "output")),
    ("convpass", {}, convpass_edit),
    ("repadapter", {}, lambda t: repadapter_edit(t, 1, 2)),
    ("repadapter", {"groups": 4, "scale": 10.0}, lambda t: repadapter_edit(t, 10, 4)),
    ("ssf", {}, ssf_edit),
    ("difffit", {}, difffit_edit),
    ("vpt_deep", FOUR, lambda t: prompts_edit(t, EVERY)),
    ("vpt_deep", FOUR | {"blocks": (-1,)}, lambda t: prompts_edit(t, FINAL)),
    ("vpt_shallow", FOUR, lambda t: prompts_edit(t, FINAL)),
    ("vpt_shallow", FOUR | {"through": "first"}, lambda t: prompts_edit(t, FIRST)),
]


def plain_names(state: P) -> P:
    return {name.replace(".base.", "."): tensor for name, tensor in state.items()}


@torch.no_grad()
def test_the_reference_is_the_vit() -> None:
    logits, _ = reference(base_vit().state_dict())
    torch.testing.assert_close(base_vit()(images()), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "settings", "make"), FORMULAS)
@torch.no_grad()
def test_formulas(name: str, settings: dict[str, Any], make: Callable[[P], Edit]) -> None:
    adapted = attach(name, **settings)
    logits = adapted.vit(images())
    expected, _ = reference(plain_names(adapted.vit.state_dict()), make(own(adapted)))
    # ConvPass and RepAdapter at scale 10 have logits of a few hundred.
    torch.testing.assert_close(logits, expected, rtol=1e-11, atol=1e-11)
    assert (logits - base_vit()(images())).abs().max() > 0.01
    if registry.method(name).MERGEABLE:
        adapted.merge()
        torch.testing.assert_close(adapted.vit(images()), logits, rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_vqt_reads_every_block_and_changes_none() -> None:
    adapted = attach("vqt", prompts=4)
    t, p = own(adapted), base_vit().state_dict()
    _, stream = reference(p)
    (tokens, _) = adapted.vit.blocks(stream[0])
    torch.testing.assert_close(tokens, stream[-1], rtol=0, atol=1e-12)

    rows = [norm(stream[-1], p, "norm")[:, :1]]
    weights = [t["norm.combine"]]
    for i, x in enumerate(stream[:-1]):
        at, z = f"blocks.{i}", t[f"blocks.{i}.queries"].expand(len(x), -1, -1)
        q = linear(norm(z, p, f"{at}.norm1"), p, f"{at}.attn.qkv")[..., :WIDTH]
        _, k, v = linear(norm(x, p, f"{at}.norm1"), p, f"{at}.attn.qkv").chunk(3, dim=-1)
        z = z + p[f"{at}.ls1.gamma"] * linear(attention(q, k, v), p, f"{at}.attn.proj")
        h = gelu(linear(norm(z, p, f"{at}.norm2"), p, f"{at}.mlp.fc1"))
        rows.append(z + p[f"{at}.ls2.gamma"] * linear(h, p, f"{at}.mlp.fc2"))
        weights.append(t[f"{at}.combine"])
    v = torch.cat(rows, dim=1)
    v = v / v.square().sum(-1, keepdim=True).sqrt()
    logits = linear((torch.cat(weights)[:, None] * v).sum(1), p, "head")
    torch.testing.assert_close(adapted.vit(images()), logits, rtol=0, atol=1e-12)


def test_vqt_keeps_nothing_of_the_frozen_stream_for_the_backward_pass() -> None:
    adapted = attach("vqt", prompts=4)
    tokens, read = adapted.vit.train().blocks(torch.randn(2, 17, WIDTH, dtype=torch.float64))
    assert not tokens.requires_grad
    assert read.requires_grad
