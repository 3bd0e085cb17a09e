"""Settings in words: types, meanings, defaults and limits, all read from a `Config`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from adapters import describe
from adapters.methods import adapter, fact_tk, lora, tucker3, vpt_deep


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A mapping inside another."""

    steps: int = 3
    """How
    many."""
    eager: bool = True


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Settings of every shape."""

    names: tuple[str, ...] | Literal["all"] = ("a",)
    """Some."""
    inner: Inner | None = None
    made: Inner = field(default_factory=Inner)
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.names != "all" and not set(self.names) <= {"a", "b"}:
            raise ValueError(f"names: {self.names} given, allowed: some of a, b")
        if not self.share <= 1:
            raise ValueError(f"share: {self.share} given with names, allowed: at most 1")


def of(cls: type[Any]) -> dict[str, describe.Setting]:
    return {setting.name: setting for setting in describe.settings(cls)}


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "integer"),
        (bool, "true or false"),
        (float | Literal["learned"], "number or learned"),
        (Literal["a", "b", "c"], "one of a, b, c"),
        (int | tuple[int, int, int], "integer or list of 3 integers"),
        (tuple[float, ...], "list of numbers"),
        (tuple[int, ...] | None, "list of integers or null"),
        (Inner | None, "mapping or null"),
    ],
)
def test_types_read_as_words(hint: Any, words: str) -> None:
    assert describe.type_in_words(hint) == words


def test_a_mapping_is_followed_by_its_own_settings() -> None:
    names = [setting.name for setting in describe.settings(Outer)]
    inner = ["inner", "inner.steps", "inner.eager"]
    made = ["made", "made.steps", "made.eager"]
    assert names == ["names", *inner, *made, "share"]
    assert of(Outer)["inner.steps"].meaning == "How many."
    assert of(Outer)["inner.eager"].meaning == ""


def test_defaults_are_json() -> None:
    defaults = {name: setting.default for name, setting in of(Outer).items()}
    assert json.loads(json.dumps(defaults)) == defaults
    assert defaults["names"] == ["a"]
    assert defaults["inner"] is None
    assert defaults["made"] == {"steps": 3, "eager": True}


def test_what_a_list_may_name_is_in_its_type() -> None:
    setting = of(Outer)["names"]
    assert (setting.type, setting.allowed) == ("list of some of a, b or all", None)
    targets = of(lora.Config)["targets"].type
    assert targets == "list of some of q, k, v, qkv, proj, fc1, fc2 or all"


def test_limits_are_those_of_the_error_that_a_wrong_value_raises() -> None:
    assert of(Outer)["share"].allowed == "at most 1"
    assert of(Outer)["inner.steps"].allowed is None
    assert of(lora.Config)["dropout"].allowed == "0 <= x < 1"
    assert of(lora.Config)["rank_stabilised"].allowed is None
    assert "list of 3 (qkv, output, input)" in str(of(tucker3.Config)["rank"].allowed)
    assert of(vpt_deep.Config)["blocks"].allowed == "one or more, each once"


def test_meanings_come_from_base_classes_too() -> None:
    assert of(fact_tk.Config)["scale"].meaning == "The factor s of the update."
    # Declared again, for another default, without another docstring.
    assert of(adapter.Config)["bottleneck"].meaning == "Width r of the bottleneck."
    assert of(adapter.Config)["bottleneck"].default == 64
