"""Settings read into frozen dataclasses, with strict types; a list may be one value or an axis.

The field's type decides which: where it wants a list (`targets: tuple[str, ...]`) a flat list is
one value and a list of lists an axis, also where one word may stand for a list (`targets:
tuple[str, ...] | Literal["all"]`); where it takes a scalar (`lr: float`, also
`rank: int | tuple[int, ...]`) a flat list is an axis and a list inside it one value.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from adapters.registry import unknown
from adapters.spec import options, type_hints
from suites.document import Node, Problem

MAX_CELLS = 1_000_000
UNREADABLE = object()
_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


@dataclass(frozen=True)
class Choice:
    """One value of a setting, and where it stands."""

    value: Any
    """UNREADABLE where the file has something else than the setting takes."""
    node: Node


Settings = dict[str, tuple[Choice, ...]]
"""The given settings, each with the values it lists: several where it is an axis."""


def read(
    cls: type[Any],
    node: Node,
    problems: list[Problem],
    *,
    extra: Collection[str] = (),
    axes: bool = True,
) -> Settings:
    """The settings that the mapping `node` has for the dataclass `cls`.

    `extra` are keys that others read. Without `axes` every list is one value.
    """
    hints = type_hints(cls)
    return {
        key: tuple(_choices(hints[key], child, problems, axes=axes))
        for key, child in entries(node, [*hints, *extra], problems).items()
        if key in hints
    }


def configs(
    cls: type[Any], settings: Settings, node: Node, problems: list[Problem]
) -> tuple[Any, ...]:
    """One `cls` for each readable combination of the settings, in order.

    Its ValueErrors become problems, those of the readable rest of a combination too.
    """
    required = {
        item.name
        for item in dataclasses.fields(cls)
        if item.default is item.default_factory is dataclasses.MISSING
    }
    lacking = sorted(required - settings.keys())
    if lacking:
        problems.append(node.problem(f"lacks {', '.join(lacking)}"))
        return ()
    if math.prod(map(len, settings.values())) > MAX_CELLS:
        problems.append(node.problem(f"lists more than {MAX_CELLS} combinations"))
        return ()
    found = []
    for combination in product(*settings.values()):
        given = dict(zip(settings, combination, strict=True))
        chosen = {name: at for name, at in given.items() if at.value is not UNREADABLE}
        unreadable = given.keys() - chosen.keys()
        if unreadable & required:
            continue
        try:
            config = cls(**{name: choice.value for name, choice in chosen.items()})
            found += [config] if not unreadable else []
        except ValueError as error:
            # What names an unreadable setting may be about the default that stands in for it.
            if not unreadable & set(re.findall(r"\w+", str(error))):
                problems.append(_placed(str(error), chosen, node))
    return tuple(found)


def one(
    cls: type[Any], node: Node, problems: list[Problem], *, extra: Collection[str] = ()
) -> Any | None:
    """The `cls` that the mapping `node` describes, without axes; None if it cannot be."""
    settings = read(cls, node, problems, extra=extra, axes=False)
    built = configs(cls, settings, node, problems)
    return built[0] if built else None


def entries(node: Node, allowed: Collection[str], problems: list[Problem]) -> dict[str, Node]:
    """The entries of the mapping `node` whose keys are allowed; the others become problems."""
    if not isinstance(node.value, dict):
        problems.append(
            node.problem(f"{node.given} given, allowed: a mapping of {', '.join(allowed)}")
        )
        return {}
    for key, child in node.value.items():
        if key not in allowed:
            problems.append(child.key_problem(unknown("key", key, allowed)))
    return {key: child for key, child in node.value.items() if key in allowed}


def items(node: Node, problems: list[Problem]) -> list[Node]:
    """The items of the list `node`, which may not be empty."""
    if not isinstance(node.value, list):
        problems.append(node.problem(f"{node.given} given, allowed: a list"))
        return []
    if not node.value:
        problems.append(node.problem("an empty list given, allowed: at least one entry"))
    return node.value


def value(hint: Any, node: Node, problems: list[Problem], *, failed: Any = None) -> Any:
    """The value of `node` as the type `hint` has it, or `failed`."""
    try:
        return _adapter(hint).validate_json(json.dumps(node.plain()), strict=True)
    except ValidationError:
        near = difflib.get_close_matches(str(node.value), _literals(hint), n=1, cutoff=0.5)
        hint_text = f". Did you mean {near[0]!r}?" if near else ""
        problems.append(node.problem(f"{node.given} given, allowed: {_allowed(hint)}{hint_text}"))
        return failed


def _choices(hint: Any, node: Node, problems: list[Problem], *, axes: bool) -> Iterator[Choice]:
    listed = [node]
    if axes and isinstance(node.value, list) and _depth(node) > _least_depth(hint):
        listed = items(node, problems)
    if not listed:
        yield Choice(UNREADABLE, node)
    nested = [o for o in options(hint) if isinstance(o, type) and dataclasses.is_dataclass(o)]
    for item in listed:
        if nested and isinstance(item.value, dict):
            settings = read(nested[0], item, problems, axes=axes)
            built = configs(nested[0], settings, item, problems)
            yield from (Choice(config, item) for config in built or [UNREADABLE])
        else:
            yield Choice(value(hint, item, problems, failed=UNREADABLE), item)


def _depth(node: Node) -> int:
    if not isinstance(node.value, list):
        return 0
    return 1 + max(map(_depth, node.value), default=0)


def _least_depth(hint: Any) -> int:
    """How deep a list the type wants at least; null, or a word instead of a list, do not count."""
    if typing.get_origin(hint) is tuple:
        return 1 + _least_depth(typing.get_args(hint)[0])
    kinds = [option for option in options(hint) if option is not type(None)]
    if kinds == [hint]:
        return 0
    if any(typing.get_origin(kind) is tuple for kind in kinds):
        kinds = [kind for kind in kinds if typing.get_origin(kind) is not Literal]
    return min(map(_least_depth, kinds))


def _placed(message: str, chosen: dict[str, Choice], node: Node) -> Problem:
    """`message` at the setting that it starts with if that was given, else at the mapping."""
    name, _, rest = message.partition(": ")
    return chosen[name].node.problem(rest) if name in chosen else node.problem(message)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _literals(hint: Any) -> list[str]:
    found = [
        a for o in options(hint) if typing.get_origin(o) is Literal for a in typing.get_args(o)
    ]
    return [str(literal) for literal in found]


def _allowed(hint: Any) -> str:
    """A type in words."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, args))
    if typing.get_origin(hint) is tuple:
        if args[-1] is Ellipsis:
            return f"a list, each entry {_allowed(args[0])}"
        return f"a list of {len(args)}, each entry {_allowed(args[0])}"
    if dataclasses.is_dataclass(hint):
        return f"a mapping of {', '.join(item.name for item in dataclasses.fields(hint))}"
    if len(options(hint)) > 1:
        # After "a list, each entry ..." a bare "or" would read as one more kind of entry.
        texts = [
            f"{_allowed(option)}{',' if typing.get_origin(option) is tuple else ''}"
            for option in options(hint)
        ]
        return " or ".join(texts).removesuffix(",")
    return _NAMES.get(hint, str(hint))
