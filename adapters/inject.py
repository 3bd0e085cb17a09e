"""Replacing Linears of a timm ViT by adapted ones, by exact names and never by substrings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn

from adapters.anatomy import Anatomy, UnfitError, anatomy_of_block, path_of
from adapters.method import AdaptedLinear, AdaptedModule, Dims, LinearAdapter

Adapter = TypeVar("Adapter", bound=LinearAdapter)


def linear_sizes(dims: Dims) -> dict[str, tuple[int, int]]:
    """Input and output features of each Linear of a block, by its name in `Anatomy.linears`."""
    return dims.anatomy.sizes(dims.width, dims.mlp_width)


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


def anatomy_of(vit: nn.Module, block: int) -> Anatomy:
    """Return how a block of a timm ViT is built."""
    return anatomy_of_block(blocks(vit)[block])


def linear_of(vit: nn.Module, block: int, linear: str) -> nn.Linear:
    """Return the Linear `linear` (a name as in `Anatomy.linears`) of a block.

    Where it is adapted already, this is the frozen Linear below. What is no plain `nn.Linear`
    (missing, quantised) is an UnfitError.
    """
    path = f"blocks.{block}.{path_of(linear)}"
    try:
        module = vit.get_submodule(path)
    except AttributeError as error:
        raise UnfitError(f"{path}: nothing given, allowed: an nn.Linear") from error
    while isinstance(module, AdaptedLinear):
        module = module.base
    if not isinstance(module, nn.Linear):
        raise UnfitError(f"{path}: {type(module).__name__} given, allowed: an nn.Linear")
    return module


def parameter_names(vit: nn.Module, block: int, target: str) -> list[str]:
    """Return the names of the weights and biases that a target (qkv, proj, fc1, fc2) consists of."""
    anatomy = anatomy_of(vit, block)
    if target == "qkv" and anatomy.attention == "beside":
        return [f"blocks.{block}.attn.{name}" for name in ("qkv.weight", "q_bias", "v_bias")]
    return [
        f"blocks.{block}.{path_of(linear)}.{name}"
        for linear in anatomy.linears_of(target)
        for name, _ in linear_of(vit, block, linear).named_parameters()
    ]


def parameter_count(dims: Dims, target: str) -> int:
    """Return how many elements these have in one block."""
    if target == "qkv" and dims.anatomy.attention == "beside":
        return 3 * dims.width**2 + 2 * dims.width
    sizes = linear_sizes(dims)
    linears = dims.anatomy.linears_of(target)
    return sum((sizes[name][0] + (name in dims.linear_biases)) * sizes[name][1] for name in linears)


def replace_linear(
    vit: nn.Module, block: int, linear: str, make: Callable[[nn.Linear], LinearAdapter]
) -> list[str]:
    """Put an `AdaptedLinear` where the block has `linear` (a name as in `Anatomy.linears`).

    On a Linear that another method has adapted the new adapter stands around the old ones, unless
    it reads the frozen weight: then it stands next to it. Returns the names, in `vit`, of the
    adapter's own parameters. ValueError where two adapters of a Linear read its weight.
    """
    base = linear_of(vit, block, linear)
    adapter = make(base)
    adapter.to(device=base.weight.device)
    base.requires_grad_(False)
    path = f"blocks.{block}.{path_of(linear)}"
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


class SharedView(LinearAdapter):
    """One adapter as it stands on one of several Linears that see the same input."""

    def __init__(self, whole: LinearAdapter, _at: int) -> None:
        super().__init__()
        # In a tuple, so that one of the Linears registers it and its state has the tensors once.
        self._whole = (whole,)

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Return the adapted output (B, N, O)."""
        (whole,) = self._whole
        out: Tensor = whole(x_BNI, base)
        return out

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return weight (O, I) and bias (O) of a plain Linear with the same output."""
        (whole,) = self._whole
        return whole.merged(base)


def replace_together(
    vit: nn.Module,
    block: int,
    target: str,
    make: Callable[[nn.Linear], Adapter],
    view: Callable[[Any, int], LinearAdapter] = SharedView,
) -> list[str]:
    """Put one adapter, `make(base)`, on all Linears that a target (qkv, proj, fc1, fc2) consists of.

    Where that is one Linear the adapter stands on it. Where it is several, `view(adapter, n)` stands
    on the n-th of them and the first view owns the adapter. Returns the names of its parameters.
    """
    linears = anatomy_of(vit, block).linears_of(target)
    if len(linears) == 1:
        return replace_linear(vit, block, linears[0], make)
    shared = make(linear_of(vit, block, linears[0]))
    names = []
    for n, linear in enumerate(linears):
        part = view(shared, n)
        if n == 0:
            part.add_module("shared", shared)
        names += replace_linear(vit, block, linear, partial(_given, part))
    return names


def _given(adapter: LinearAdapter, _base: nn.Linear) -> LinearAdapter:
    return adapter


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
