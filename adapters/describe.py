"""The settings of a `Config` in words: what people read before they write a suite.

Nothing is written down twice. Names, types and defaults come from the dataclass, meanings from the
docstrings under its fields, and what a setting allows from the error that a wrong value raises.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from adapters.spec import options

_WORDS = {
    int: ("integer", "integers"),
    float: ("number", "numbers"),
    str: ("text", "text"),
    bool: ("true or false", "true or false"),
    types.NoneType: ("null", "null"),
}
_WRONG: tuple[Any, ...] = (-1, math.nan, (), ("?",))
"""What hardly any setting takes. A refused name tells more than an empty list: it comes last."""
_SOME = "some of "


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a `Config`."""

    name: str
    """With dots where it belongs to a mapping: `outer.inner`."""
    type: str
    """In words; with all values where it is a choice."""
    default: Any
    """As JSON has it."""
    meaning: str
    """One paragraph."""
    allowed: str | None
    """What it allows beyond its type; None where its type says all that is known."""


def settings(cls: type[Any]) -> list[Setting]:
    """The settings of a dataclass, in its order, each mapping followed by its own settings.

    Every setting has a default, as `cls()` and its mappings promise.
    """
    return list(_settings(cls, ""))


def _settings(cls: type[Any], prefix: str) -> Iterator[Setting]:
    hints, meanings, allowed = typing.get_type_hints(cls), documented(cls), _allowed(cls)
    defaults = plain(cls())
    for item in dataclasses.fields(cls):
        words, rule = type_in_words(hints[item.name]), allowed.get(item.name)
        names = _list_of_names(hints[item.name])
        some = rule and rule.removeprefix("a list of ").removesuffix(", or all")
        if names and some and some.startswith(_SOME):
            words, rule = words.replace(names, f"list of {some}"), None
        yield Setting(
            name=prefix + item.name,
            type=words,
            default=defaults[item.name],
            meaning=meanings.get(item.name, ""),
            allowed=rule,
        )
        for option in options(hints[item.name]):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                yield from _settings(option, f"{prefix}{item.name}.")


def documented(cls: type[Any]) -> dict[str, str]:
    """The docstring under each field, as one paragraph; a base class's where the class has none."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= dict(_field_docstrings(base))
    return found


def type_in_words(hint: Any) -> str:
    """What a suite may write where the type is `hint`: `integer or list of 3 integers`."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, args))}" if len(args) > 1 else str(args[0])
    if typing.get_origin(hint) is tuple:
        how_many = "" if args[-1] is Ellipsis else f"{len(args)} "
        return f"list of {how_many}{_WORDS[args[0]][1]}"
    if dataclasses.is_dataclass(hint):
        return "mapping"
    if len(options(hint)) > 1:
        return " or ".join(map(type_in_words, options(hint)))
    return _WORDS[hint][0]


def _field_docstrings(cls: type[Any]) -> Iterator[tuple[str, str]]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


def _allowed(cls: type[Any]) -> dict[str, str]:
    """What follows `allowed:` when a setting is refused, for settings that refuse anything."""
    rules: dict[str, str] = {}
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        for wrong in _WRONG:
            if not _fits(wrong, hints[item.name]):
                continue
            try:
                cls(**{item.name: wrong})
            except ValueError as error:
                name, _, rest = str(error).partition(": ")
                rule = rest.partition("allowed: ")[2]
                if name == item.name and rule:
                    rules[item.name] = rule
    return rules


def _fits(wrong: Any, hint: Any) -> bool:
    """Whether `wrong` is of the type, so that its refusal is about its value."""
    for option in options(hint):
        if typing.get_origin(option) is tuple:
            entry = typing.get_args(option)[0]
            if isinstance(wrong, tuple) and all(_fits(item, entry) for item in wrong):
                return True
        elif option in (int, float, str) and type(wrong) is option:
            return True
    return False


def _list_of_names(hint: Any) -> str | None:
    """How `type_in_words` says that the type takes a list of names."""
    lists = [option for option in options(hint) if option == tuple[str, ...]]
    return type_in_words(lists[0]) if lists else None


def plain(value: Any) -> Any:
    """A setting as JSON and YAML have it: tuples as lists, settings as mappings, none left out."""
    if dataclasses.is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
