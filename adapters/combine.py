"""Several methods on one ViT, as one method: `registry.method("lora+miss")`.

Its settings are those of its parts, by their names. Parts stand in alphabetical order, so that the
order in which a suite lists them changes no run. On one Linear the later stands around the
earlier: `lora+ssf` scales what the Linear and LoRA give together.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import torch
from torch import nn

from adapters import registry
from adapters.fitting import attach_without_numbers
from adapters.inject import is_head
from adapters.method import Dims, Identity

JOIN = "+"
_STARTS: tuple[Identity, ...] = ("exact", "close", "no")


@cache
def combined(name: str) -> Combined:
    """The combination called `name`, as in `lora+miss`; UnknownNameError for unknown parts."""
    return Combined(sorted(name.split(JOIN)))


class Combined:
    """A method made of methods; offers what a module in `adapters/methods/` does."""

    FAMILY = "combined"

    def __init__(self, names: list[str]) -> None:
        self.name = JOIN.join(names)
        # The second of two of a kind is called lora_2: each setting needs a name of its own.
        self.parts = {
            name if n == 0 else f"{name}_{n + 1}": registry.method(name)
            for name, n in ((name, names[:i].count(name)) for i, name in enumerate(names))
        }
        methods = list(self.parts.values())
        self.PAPER = ", ".join(dict.fromkeys(m.PAPER for m in methods if m.PAPER))
        self.IDENTITY_AT_START = _STARTS[max(_STARTS.index(m.IDENTITY_AT_START) for m in methods)]
        self.MERGEABLE = all(m.MERGEABLE for m in methods)
        # Each only ever grows, so that the sum is another whenever one of them is.
        self.SEMANTICS = sum(m.SEMANTICS for m in methods)
        self.Config: type[Any] = dataclasses.make_dataclass(
            "Combination",
            [
                (name, method.Config, dataclasses.field(default=method.Config()))
                for name, method in self.parts.items()
            ],
            frozen=True,
            kw_only=True,
        )

    def attach(self, vit: nn.Module, config: Any, generator: torch.Generator) -> list[str]:
        """Attach the parts one after another; return the names of what they train.

        Raises ValueError where two of them cannot stand on one ViT.
        """
        plain = {id(parameter) for parameter in vit.parameters()}
        plain_modules = set(vit.modules())
        owner: dict[int, str] = {}
        for name, method in self.parts.items():
            there = {id(parameter) for parameter in vit.parameters()}
            added = {module for module in vit.modules() if module not in plain_modules}
            try:
                trained = method.attach(vit, getattr(config, name), generator)
            except ValueError as error:
                others = [part for part in self.parts if part != name]
                raise ValueError(f"{name} beside {', '.join(others)}: {error}") from error
            parameters = dict(vit.named_parameters())
            if not added <= set(vit.modules()):
                raise ValueError(
                    f"{self.name}: {name} takes away what another part put there, "
                    "allowed: parts that adapt different places"
                )
            for tensor in trained:
                key = id(parameters[tensor])
                if key in owner and key in plain:
                    raise ValueError(
                        f"{self.name}: {owner[key]} and {name} both train {tensor}, "
                        "allowed: each tensor of the ViT in one part"
                    )
                # What an earlier part added is no bias or norm of the ViT's own.
                if key in plain or key not in there:
                    owner[key] = name
        return [
            name
            for name, parameter in vit.named_parameters()
            if id(parameter) in owner and not is_head(name)
        ]

    def count(self, config: Any, dims: Dims) -> int:
        """Add up the parts; ValueError where they cannot stand on one ViT."""
        attach_without_numbers(self, config, dims)
        return sum(method.count(getattr(config, name), dims) for name, method in self.parts.items())

    def count_is_exact(self, config: Any) -> bool:
        """Whether no part's count is an upper bound."""
        return all(registry.count_is_exact(name, part) for name, part in self._configs(config))

    def check_run(self, config: Any, steps: int) -> None:
        """Ask every part whether its settings fit a run of so many steps."""
        for name, part in self._configs(config):
            check = registry.run_check(name)
            if check is not None:
                check(part, steps)

    def _configs(self, config: Any) -> list[tuple[str, Any]]:
        """The settings of every part, with the method's name."""
        names = self.name.split(JOIN)
        return [(name, getattr(config, key)) for name, key in zip(names, self.parts, strict=True)]


def config_of(parts: list[tuple[str, Any]]) -> tuple[str, Any]:
    """The combined method's name and settings from those of its parts, in any order.

    Raises ValueError for fewer than two parts, or parts that are combinations themselves.
    """
    if len(parts) < 2 or any(JOIN in name for name, _ in parts):
        given = ", ".join(name for name, _ in parts)
        raise ValueError(f"combine: {given} given, allowed: two or more methods, each by itself")
    # By the settings too, so that the order of two of a kind makes no difference either.
    ordered = sorted(parts, key=lambda part: (part[0], repr(part[1])))
    method = combined(JOIN.join(name for name, _ in ordered))
    settings = dict(zip(method.parts, (config for _, config in ordered), strict=True))
    return method.name, method.Config(**settings)
