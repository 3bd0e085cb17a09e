"""Replacing Linears of a timm ViT by adapted ones, by exact names and never by substrings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from adapters.method import AdaptedLinear, AdaptedModule, Dims, LinearAdapter

Adapter = TypeVar("Adapter", bound=LinearAdapter)

LINEARS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
"""The Linears of one timm block, by the name that suites use for them."""


def linear_sizes(dims: Dims) -> dict[str, tuple[int, int]]:
    """Input and output features of each Linear of a block, by the keys of `LINEARS`."""
    d, mlp = dims.width, dims.mlp_width
    return {"qkv": (d, 3 * d), "proj": (d, d), "fc1": (d, mlp), "fc2": (mlp, d)}


def is_head(name: str) -> bool:
    """Tell whether a parameter of a timm ViT, by its name, is the classification head's."""
    return name.startswith("head.")


def blocks(vit: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks, first to last."""
    found = getattr(vit, "blocks", None)
    if not isinstance(found, nn.Sequential | nn.ModuleList):
        raise ValueError(
            f"{type(vit).__name__} given, allowed: a timm ViT with a `blocks` sequence"
        )
    return list(found)


def linear_of(vit: nn.Module, block: int, linear: str) -> nn.Linear:
    """Return the Linear `linear` (a key of `LINEARS`) of a block.

    Where it is adapted already, this is the frozen Linear below. What is no plain `nn.Linear`
    (missing, quantised) is a ValueError.
    """
    path = f"blocks.{block}.{LINEARS[linear]}"
    try:
        module = vit.get_submodule(path)
    except AttributeError as error:
        raise ValueError(f"{path}: nothing given, allowed: an nn.Linear") from error
    while isinstance(module, AdaptedLinear):
        module = module.base
    if not isinstance(module, nn.Linear):
        raise ValueError(f"{path}: {type(module).__name__} given, allowed: an nn.Linear")
    return module


def replace_linear(
    vit: nn.Module, block: int, linear: str, make: Callable[[nn.Linear], LinearAdapter]
) -> list[str]:
    """Put an `AdaptedLinear` where the block has `linear` (a key of `LINEARS`).

    On a Linear that another method has adapted the new adapter stands around the old ones, unless
    it reads the frozen weight: then it stands next to it. Returns the names, in `vit`, of the
    adapter's own parameters. ValueError where two adapters of a Linear read its weight.
    """
    base = linear_of(vit, block, linear)
    adapter = make(base)
    adapter.to(device=base.weight.device)
    base.requires_grad_(False)
    path = f"blocks.{block}.{LINEARS[linear]}"
    module = vit.get_submodule(path)
    if adapter.reads_weight:
        while isinstance(module, AdaptedLinear):
            if module.adapter.reads_weight:
                raise ValueError(
                    f"{path}: {type(adapter).__name__} given beside "
                    f"{type(module.adapter).__name__}, allowed: one that reads the frozen weight"
                )
            path, module = f"{path}.base", module.base
    assert isinstance(module, nn.Linear | AdaptedLinear)
    vit.set_submodule(path, AdaptedLinear(module, adapter).train(base.training))
    return [f"{path}.adapter.{name}" for name, _ in adapter.named_parameters()]


def adapted_modules(vit: nn.Module) -> Iterator[tuple[str, AdaptedModule]]:
    """Every (path, module) that stands where the ViT had a module of its own; outermost ones."""
    outer = None
    for path, module in vit.named_modules():
        if outer is not None and path.startswith(f"{outer}."):
            continue
        if isinstance(module, AdaptedModule):
            outer = path
            yield path, module


def adapted_linears(
    vit: nn.Module, kind: type[Adapter]
) -> Iterator[tuple[str, nn.Linear, Adapter]]:
    """Every (path, base, adapter) of the Linears that have an adapter of this kind."""
    for path, module in adapted_modules(vit):
        if (
            isinstance(module, AdaptedLinear)
            and isinstance(module.adapter, kind)
            and isinstance(module.base, nn.Linear)
        ):
            yield path, module.base, module.adapter
