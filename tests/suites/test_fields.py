"""Typed settings: nesting, unions, and what a list means for each kind of field."""

import dataclasses
from typing import Literal

import pytest

from suites import fields
from suites.document import parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    count: int
    rate: float = 0.5

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"count: {self.count} given, allowed: at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    rank: int | tuple[int, ...] = 8
    betas: tuple[float, float] = (0.9, 0.999)
    blocks: tuple[int, ...] | None = None
    targets: tuple[str, ...] | Literal["all"] = ("q",)
    mode: Literal["a", "b"] | float = "a"
    inner: Inner | None = None
    flag: bool = False


def read(text):
    problems = []
    node = parse(text, "f", problems)
    settings = fields.read(Config, node, problems)
    found = fields.configs(Config, settings, node, problems)
    return [vars(config) for config in found], [str(p) for p in problems]


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("rank: 2", "rank", [2]),
        ("rank: [2, 3]", "rank", [2, 3]),
        ("rank: [2, [3, 4]]", "rank", [2, (3, 4)]),
        ("betas: [1, 0.5]", "betas", [(1.0, 0.5)]),
        ("betas: [[1, 0.5], [0, 0]]", "betas", [(1.0, 0.5), (0.0, 0.0)]),
        ("blocks: []", "blocks", [()]),
        ("blocks: null", "blocks", [None]),
        ("blocks: [null, [1, 2], []]", "blocks", [None, (1, 2), ()]),
        ("targets: [q, v]", "targets", [("q", "v")]),
        ("targets: all", "targets", ["all"]),
        ("targets: [all]", "targets", [("all",)]),
        ("targets: [[q, v], [qkv]]", "targets", [("q", "v"), ("qkv",)]),
        ("targets: [[q, v], all]", "targets", [("q", "v"), "all"]),
        ("targets: [all, [q]]", "targets", ["all", ("q",)]),
        ("mode: [b, 2, 2.5]", "mode", ["b", 2.0, 2.5]),
        ("inner: {count: 2}", "inner", [Inner(count=2)]),
        ("inner: {count: [1, 2], rate: 1}", "inner", [Inner(count=1, rate=1.0), Inner(count=2, rate=1.0)]),
        ("inner: [null, {count: 2}]", "inner", [None, Inner(count=2)]),
        ("flag: [true, false]", "flag", [True, False]),
    ],
)  # fmt: skip
def test_what_a_list_means(text, name, values):
    configs, problems = read(text)
    assert not problems
    assert [config[name] for config in configs] == values


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("betas: [1]", "f:1:1: betas: [1] given, allowed: a list of 2, each entry a number"),
        (
            "blocks: [[1], 2]",
            "f:1:15: blocks[1]: 2 given, allowed: a list, each entry a whole number",
        ),
        (
            "targets: al",
            "f:1:10: targets: 'al' given, allowed: a list, each entry text, or all. Did you mean 'all'?",
        ),
        (
            "targets: [[q], v]",
            "f:1:16: targets[1]: 'v' given, allowed: a list, each entry text, or all",
        ),
        (
            "blocks: 1",
            "f:1:9: blocks: 1 given, allowed: a list, each entry a whole number, or null",
        ),
        ("inner: {rate: 1}", "f:1:1: inner: lacks count"),
        ("inner: {count: 1, rat: 1}", "f:1:19: inner.rat: unknown key 'rat'. Did you mean 'rate'?"),
        ("inner: [{count: 1}, {count: 0}]", "f:1:29: inner[1].count: 0 given, allowed: at least 1"),
        ("inner: 3", "f:1:8: inner: 3 given, allowed: a mapping of count, rate or null"),
        ("flag: 1", "f:1:7: flag: 1 given, allowed: true or false"),
        ("rank: [[]]", None),
        ("mode: c", "f:1:7: mode: 'c' given, allowed: a or b or a number"),
    ],
)
def test_what_a_field_refuses(text, problem):
    _, problems = read(text)
    assert len(problems) == (problem is not None)
    assert problem is None or problems[0].startswith(problem)


def test_too_many_combinations_are_refused_before_they_are_made():
    axis = str(list(range(1, 1200)))
    configs, problems = read(f"rank: {axis}\nmode: {axis}")
    assert configs == []
    assert problems == ["f:1:1: lists more than 1000000 combinations"]
