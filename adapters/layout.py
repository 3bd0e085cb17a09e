"""What an adapter changed in a ViT's module tree, so that it can be taken off and put on again.

A method may replace modules, add some, register hooks or set attributes. All of that is in the
`__dict__` of the modules that were there before, so two states of those describe any method, and
none has to know how to undo itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

RECORD = "_peftgrid_adapted"
"""The attribute of a ViT that knows its adapters."""
_KEPT = ("training", RECORD)
"""Attributes that belong to no layout."""

Layout = Mapping[nn.Module, Mapping[str, Any]]
"""The children, parameters, buffers, hooks and plain attributes of modules."""


def layout_of(vit: nn.Module) -> Layout:
    """How every module of `vit` stands at present; no tensor is copied."""
    return {module: _state(module) for module in vit.modules()}


def difference(before: Layout) -> tuple[Layout, Layout]:
    """The modules of `before` that have changed since: as they were, and as they are now."""
    now = {module: _state(module) for module in before}
    changed = [module for module in before if not _same(before[module], now[module])]
    return {m: before[m] for m in changed}, {m: now[m] for m in changed}


def put(vit: nn.Module, layout: Layout) -> None:
    """Bring the modules of `layout` back to it; modules that come back follow the mode of `vit`."""
    for module, state in layout.items():
        held = vars(module)
        for name in [name for name in held if name not in state and name not in _KEPT]:
            del held[name]
        # Copied, since a dictionary that is handed out may change in place.
        held.update({name: _copied(value) for name, value in state.items()})
    vit.train(vit.training)


def _state(module: nn.Module) -> dict[str, Any]:
    return {name: _copied(value) for name, value in vars(module).items() if name not in _KEPT}


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | set) else value


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        _same_value(value, second[name]) for name, value in first.items()
    )


def _same_value(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return list(first) == list(second) and all(first[key] is second[key] for key in first)
    if isinstance(first, set):
        return bool(first == second)
    # Numbers and texts may be equal without being the same object; tensors are compared as objects.
    return first is second or (isinstance(first, int | float | str | tuple) and first == second)
