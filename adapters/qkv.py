"""Targets, and the fused qkv Linear of timm that three of them share.

Its output rows 0..d-1 are the query, d..2d-1 the key, 2d..3d-1 the value. A method adapts the whole
Linear (target "qkv") or some of its row blocks apart from each other ("q", "k", "v"). In ViTs where
query, key and value are Linears of their own, each of these targets means whole Linears.

Shape suffixes: B batch, N tokens, I input features, O output features, R rank, P the row blocks
that are adapted apart from each other (1: the whole Linear), o the rows of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from adapters.anatomy import LINEARS, PROJECTIONS, Anatomy
from adapters.inject import anatomy_of, blocks, linear_of, linear_sizes, replace_linear
from adapters.method import Dims, LinearAdapter

TARGETS = (*PROJECTIONS, *LINEARS)
"""What `targets` may name: separate projections, the fused qkv, the other Linears of a block."""
All = Literal["all"]
"""In place of a list of targets: each of them in its whole form, so the fused qkv and not q, k, v."""


def canonical_targets(
    targets: tuple[str, ...] | All, allowed: tuple[str, ...] = TARGETS
) -> tuple[str, ...]:
    """The targets in the order of `allowed`: what order a suite lists them in changes no run.

    "all" becomes the list that it stands for. Raises ValueError unless they are that word or a
    non-empty choice from `allowed`, each once.
    """
    if targets == "all":
        return tuple(t for t in allowed if t not in PROJECTIONS or "qkv" not in allowed)
    some = f"a list of some of {', '.join(allowed)}, or all"
    if not isinstance(targets, tuple):  # "qkv" is a sequence of three targets, but not meant so
        raise ValueError(f"targets: {targets!r} given, allowed: {some}")
    if not targets:
        raise ValueError(f"targets: an empty list given, allowed: {some}")
    for target in targets:
        if target not in allowed:
            raise ValueError(f"targets: {target!r} given, allowed: {some}")
    if len(set(targets)) < len(targets):
        raise ValueError(f"targets: {list(targets)} given, allowed: each name once")
    if "qkv" in targets and set(targets) & set(PROJECTIONS):
        raise ValueError(
            f"targets: {list(targets)} given, allowed: the fused qkv or any of q, k, v, not both"
        )
    return tuple(target for target in allowed if target in targets)


def rows(projection: str, width: int) -> slice:
    """Return the output rows of "q", "k" or "v" in a fused weight of 3 * `width` rows."""
    start = PROJECTIONS.index(projection) * width
    return slice(start, start + width)


class Place(NamedTuple):
    """A Linear to adapt, and what of it."""

    linear: str
    """Its name in `Anatomy.linears`."""
    parts: tuple[str, ...]
    """Its row blocks to adapt apart from each other; empty where it is adapted whole."""
    targets: tuple[str, ...]
    """What settings call these: a target for each row block, or one for the whole Linear."""


def places(targets: tuple[str, ...] | All, anatomy: Anatomy) -> list[Place]:
    """Group targets by Linear: ("q", "v", "fc1") -> qkv (q, v), fc1.

    The order is that of the Linears in a block. Raises UnfitError where no adapter can stand on a
    target.
    """
    chosen = tuple(LINEARS) if targets == "all" else targets
    found = []
    for target in LINEARS:
        parts = tuple(p for p in PROJECTIONS if p in chosen) if target == "qkv" else ()
        if target not in chosen and not parts:
            continue
        linears = anatomy.linears_of(target)
        if parts and linears == (target,):
            found.append(Place(target, parts, parts))
        elif parts:
            found += [Place(part, (), (part,)) for part in parts]
        else:
            found += [Place(linear, (), (target,)) for linear in linears]
    return found


def replace_targets(
    vit: nn.Module,
    targets: tuple[str, ...] | All,
    make: Callable[..., LinearAdapter],
    chosen: Sequence[int] | None = None,
) -> list[str]:
    """Adapt `targets` with `make(base, parts=...)` in the blocks `chosen`, or in all.

    Returns the parameters' names. `parts` is as in `Place`. Blocks go first to last, and in each
    the Linears in order.
    """
    return [
        name
        for block in (range(len(blocks(vit))) if chosen is None else chosen)
        for linear, parts, _ in places(targets, anatomy_of(vit, block))
        for name in replace_linear(vit, block, linear, partial(make, parts=parts))
    ]


def targeted(
    vit: nn.Module, targets: tuple[str, ...] | All, block: int
) -> list[tuple[int, int, int]]:
    """Return (P, o, I) of every Linear of a block that `replace_targets` adapts."""
    found = []
    for linear, parts, _ in places(targets, anatomy_of(vit, block)):
        base = linear_of(vit, block, linear)
        found.append((*part_shape(base.out_features, parts), base.in_features))
    return found


def part_shape(out_features: int, parts: tuple[str, ...]) -> tuple[int, int]:
    """Return (P, o): how many row blocks are adapted apart from each other, and their rows."""
    return (len(parts), out_features // 3) if parts else (1, out_features)


def target_shapes(targets: tuple[str, ...] | All, dims: Dims) -> list[tuple[int, int, int]]:
    """Return the same of a block of a ViT of these sizes, for counts."""
    sizes = linear_sizes(dims)
    return [
        (*part_shape(sizes[linear][1], parts), sizes[linear][0])
        for linear, parts, _ in places(targets, dims.anatomy)
    ]


def low_rank(x_BNI: Tensor, down_QRI: Tensor, up_PoR: Tensor) -> Tensor:
    """Return x through `down` and `up`, per row block (B, N, P, o).

    Q is P, or 1 where all row blocks share `down`.
    """
    z_BNQR = _matmul(x_BNI, down_QRI)
    if down_QRI.shape[0] == 1:
        return _matmul(z_BNQR.flatten(-2), up_PoR)
    return torch.einsum("...pr,por->...po", z_BNQR, up_PoR)


def _matmul(x_BNI: Tensor, weight_PoI: Tensor) -> Tensor:
    """Return x through one weight per row block, in one multiplication (B, N, P, o)."""
    p, o, _ = weight_PoI.shape
    y_BNO = nn.functional.linear(x_BNI, weight_PoI.flatten(0, 1))
    return y_BNO.reshape(*y_BNO.shape[:-1], p, o)


def add_delta(y_BNO: Tensor, delta_BNPo: Tensor, parts: tuple[str, ...]) -> Tensor:
    """Add the change of each row block to a Linear's output, in the output's precision."""
    delta_BNPo = delta_BNPo.to(y_BNO.dtype)
    if parts in ((), PROJECTIONS):
        return y_BNO + delta_BNPo.flatten(-2)
    chunks = list(y_BNO.chunk(3, dim=-1))
    for part, delta_BNo in zip(parts, delta_BNPo.unbind(-2), strict=True):
        at = PROJECTIONS.index(part)
        chunks[at] = chunks[at] + delta_BNo
    return torch.cat(chunks, dim=-1)


def spread(blocks_Po: Tensor, parts: tuple[str, ...], *, fill: float = 0.0) -> Tensor:
    """Return the rows (O, ...) of a Linear from those of `parts` (P, o, ...), others at `fill`."""
    if not parts:
        return blocks_Po.flatten(0, 1)
    other_o = blocks_Po.new_full(blocks_Po.shape[1:], fill)
    return torch.cat([blocks_Po[parts.index(p)] if p in parts else other_o for p in PROJECTIONS])


def row_blocks(weight_OI: Tensor, parts: tuple[str, ...]) -> Tensor:
    """The rows of a weight that `parts` stands for, as (P, o, I): what `spread` puts back."""
    if not parts:
        return weight_OI.unsqueeze(0)
    return torch.stack([weight_OI.chunk(3)[PROJECTIONS.index(part)] for part in parts])


def output_blocks(y_BNO: Tensor, parts: tuple[str, ...]) -> Tensor:
    """The outputs that `parts` stands for, as (B, N, P, o): what `add_delta` adds to."""
    if not parts:
        return y_BNO.unsqueeze(-2)
    chunks = y_BNO.chunk(3, dim=-1)
    return torch.stack([chunks[PROJECTIONS.index(part)] for part in parts], dim=-2)
