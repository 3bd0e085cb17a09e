"""Putting adapters on a ViT from Python, by the names and settings that suites use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapters import registry
from adapters.adapted import Adapted
from adapters.combine import config_of
from adapters.layout import RECORD
from adapters.spec import from_plain

Parts = Sequence[Mapping[str, Any]]


def attach(
    vit: nn.Module, method: str | Parts, *, name: str = "default", seed: int = 0, **settings: Any
) -> Adapted:
    """Put `method` with `settings` on a timm ViT, in place, drawing from `seed`, and make it active.

        adapted = attach(vit, "lora", rank=4, targets=["q", "v"])
        adapted = attach(vit, [{"name": "bitfit"}, {"name": "lora", "rank": 4}])    # both at once

    Several adapters with different names may sit on one ViT, each with a head of its own; one is
    active at a time: see `Adapted.use`. What the ViT was before comes back with `Adapted.disabled`.

    Raises ValueError for a method, setting or value that does not exist, a ViT that the method
    cannot take, a name that is taken, or a ViT that is merged at present.
    """
    chosen, config = _chosen(method, settings)
    return attach_config(vit, chosen, config, name=name, seed=seed)


def attach_config(
    vit: nn.Module, method: str, config: Any, *, name: str, seed: int, classes: int | None = None
) -> Adapted:
    """As `attach`, from a method's own `config`; `classes` gives the adapter a head of that size."""
    adapted: Adapted = vars(vit).get(RECORD) or Adapted(vit)
    adapted.add(
        name, method, config, torch.Generator().manual_seed(seed), seed=seed, classes=classes
    )
    vars(vit)[RECORD] = adapted
    return adapted


def _chosen(method: str | Parts, settings: Mapping[str, Any]) -> tuple[str, Any]:
    if isinstance(method, str):
        return method, _config(method, settings)
    if settings:
        raise ValueError(
            f"attach: {', '.join(settings)} given beside a list of methods, allowed: settings in it"
        )
    lacking = [part for part in method if "name" not in part]
    if lacking:
        raise ValueError(
            f"attach: {lacking[0]} given, allowed: a name and settings for each method"
        )
    parts = [(part["name"], {k: v for k, v in part.items() if k != "name"}) for part in method]
    return config_of([(name, _config(name, own)) for name, own in parts])


def _config(method: str, settings: Mapping[str, Any]) -> Any:
    config_type = registry.method(method).Config
    allowed = [field.name for field in dataclasses.fields(config_type)]
    for setting in settings:
        if setting not in allowed:
            raise ValueError(registry.unknown(f"setting of {method}", setting, allowed))
    return from_plain(config_type, settings)
