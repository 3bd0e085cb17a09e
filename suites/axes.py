"""Reading what a grid multiplies (backbones, methods, data sets, ...) and rules on its cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal

from adapters import backbones, registry
from adapters.combine import config_of
from adapters.spec import TrainConfig
from suites import fields
from suites.document import Node, Problem
from suites.expand import Part, Rule
from suites.fields import Settings
from suites.schema import Resources

AXES = ("backbone", "backbones", "methods", "datasets", "seeds", "train")
"""The keys of a grid."""


@dataclass(frozen=True)
class Axes:
    """The axes of one grid; None for those that it does not give."""

    node: Node
    backbones: tuple[str, ...] | None
    methods: dict[Part, Node] | None
    """With the entry of the file that each comes from."""
    datasets: dict[Part, Node] | None
    seeds: Sequence[int] | None
    train: Settings

    def over(self, base: Axes) -> Axes:
        """These axes, with what they do not give from `base`; train settings one by one."""
        return replace(
            self,
            backbones=base.backbones if self.backbones is None else self.backbones,
            methods=base.methods if self.methods is None else self.methods,
            datasets=base.datasets if self.datasets is None else self.datasets,
            seeds=base.seeds if self.seeds is None else self.seeds,
            train=base.train | self.train,
        )


@dataclass(frozen=True)
class Override:
    """Train settings, resources or both for the cells that a rule matches."""

    rule: Rule
    train: Settings
    resources: Settings
    node: Node


@dataclass(frozen=True)
class Exclude:
    """A rule whose cells do not run."""

    rule: Rule
    node: Node


def read_axes(node: Node, problems: list[Problem], *, alone: bool = False) -> Axes:
    """The axes that the mapping `node` gives; it may have other keys unless it is `alone`."""
    given = node.value if isinstance(node.value, dict) else {}
    if alone:
        given = fields.entries(node, AXES, problems)
    return Axes(
        node=node,
        backbones=_backbones(given, problems),
        methods=parts("methods", given["methods"], problems) if "methods" in given else None,
        datasets=parts("data", given["datasets"], problems) if "datasets" in given else None,
        seeds=read_seeds(given["seeds"], problems) if "seeds" in given else None,
        train=read_train(given["train"], problems) if "train" in given else {},
    )


def parts(
    kind: Literal["methods", "data"], node: Node, problems: list[Problem]
) -> dict[Part, Node]:
    """The methods or data sets that the list `node` names, one for each combination of settings."""
    found: dict[Part, Node] = {}
    for entry in fields.items(node, problems):
        combines = isinstance(entry.value, dict) and "combine" in entry.value
        extra = ("name", "label") if kind == "methods" else ("name",)
        read = (
            _combinations if kind == "methods" and combines else partial(_parts, kind, extra=extra)
        )
        label = _label(entry, problems) if kind == "methods" else None
        for part in read(entry, problems):
            found.setdefault(replace(part, label=label), entry)
    return found


def _label(entry: Node, problems: list[Problem]) -> str | None:
    """The suite's own name for the method of an entry."""
    node = entry.value.get("label") if isinstance(entry.value, dict) else None
    if node is None:
        return None
    given: str | None = fields.value(str, node, problems)
    if given is not None and not re.fullmatch(r"[\w.+-]+", given):
        problems.append(node.problem(f"{node.given} given, allowed: letters, digits and _ . + -"))
    return given


def _parts(
    kind: Literal["methods", "data"],
    entry: Node,
    problems: list[Problem],
    extra: tuple[str, ...] = ("name",),
) -> list[Part]:
    """The methods or data sets that one entry of a list names."""
    name = entry.value.get("name") if isinstance(entry.value, dict) else entry
    if name is None or not isinstance(name.value, str):
        problems.append(
            entry.problem(f"{entry.given} given, allowed: a name, or {{name: ..., settings}}")
        )
        return []
    try:
        module = registry.method if kind == "methods" else registry.dataset
        config = module(name.value).Config
    except ValueError as error:
        problems.append(name.problem(str(error)))
        return []
    settings: Settings = {}
    if name is not entry:
        settings = fields.read(config, entry, problems, extra=extra)
    return [Part(name.value, made) for made in fields.configs(config, settings, entry, problems)]


def _combinations(entry: Node, problems: list[Problem]) -> list[Part]:
    """The methods that `combine: [...]` makes, one for each choice among the axes of its parts."""
    listed = fields.entries(entry, ("combine", "label"), problems)["combine"]
    choices = [_parts("methods", item, problems) for item in fields.items(listed, problems)]
    try:
        return [
            Part(*config_of([(part.name, part.config) for part in choice]))
            for choice in product(*choices)
        ]
    except ValueError as error:
        problems.append(listed.problem(str(error)))
        return []


def read_seeds(node: Node, problems: list[Problem]) -> Sequence[int]:
    """`n` for 0 to n - 1, or a list."""
    given = fields.value(int | tuple[int, ...], node, problems)
    if isinstance(given, int):
        if 1 <= given <= fields.MAX_CELLS:
            return range(given)
        problems.append(node.problem(f"{given} given, allowed: 1 to {fields.MAX_CELLS}"))
    elif given == ():
        problems.append(node.problem("an empty list given, allowed: at least one seed"))
    elif given is not None and min(given) < 0:
        problems.append(node.problem(f"{node.given} given, allowed: seeds of at least 0"))
    return tuple(dict.fromkeys(given)) if isinstance(given, tuple) else ()


def read_train(node: Node, problems: list[Problem]) -> Settings:
    """Train settings."""
    return fields.read(TrainConfig, node, problems)


def read_overrides(node: Node, problems: list[Problem]) -> list[Override]:
    """The list of `{when: {...}, train: {...}, resources: {...}}`."""
    found = []
    for entry in fields.items(node, problems):
        given = fields.entries(entry, ("when", "train", "resources"), problems)
        lacking = [] if "when" in given else ["when"]
        lacking += [] if {"train", "resources"} & given.keys() else ["train or resources"]
        if lacking and isinstance(entry.value, dict):
            problems.append(entry.problem(f"lacks {', '.join(lacking)}"))
        rule = _rule(given["when"], problems) if "when" in given else Rule({})
        train = read_train(given["train"], problems) if "train" in given else {}
        resources: Settings = {}
        if "resources" in given:
            resources = fields.read(Resources, given["resources"], problems, axes=False)
        found.append(Override(rule, train, resources, entry))
    return found


def read_excludes(node: Node, problems: list[Problem]) -> list[Exclude]:
    """The list of `{method: ..., dataset: ...}`."""
    entries = fields.items(node, problems)
    return [Exclude(_rule(entry, problems), entry) for entry in entries]


def _rule(node: Node, problems: list[Problem]) -> Rule:
    given = fields.entries(node, ("method", "dataset", "backbone", "seed"), problems)
    if node.value == {}:
        problems.append(
            node.problem("names nothing, allowed: some of method, dataset, backbone, seed")
        )
    when: dict[str, frozenset[str | int]] = {}
    for axis, child in given.items():
        hint = int | tuple[int, ...] if axis == "seed" else str | tuple[str, ...]
        value = fields.value(hint, child, problems)
        names = list(value) if isinstance(value, tuple) else [value] if value is not None else []
        if axis == "backbone":
            names = [_backbone(name, child, problems) for name in names]
        elif axis != "seed":
            problems += [
                child.problem(message)
                for name in names
                if (message := _unknown(axis, str(name))) is not None
            ]
        when[axis] = frozenset(names)
    return Rule(when)


def _unknown(axis: str, name: str) -> str | None:
    """What is wrong with the name of a method or a data set; None where it exists."""
    if axis == "dataset" and "/" in name:
        try:
            registry.dataset(name)
        except ValueError as error:
            return str(error)
        return None
    known = registry.names("methods" if axis == "method" else "data")
    parts = name.split("+") if axis == "method" else [name]
    wrong = [part for part in parts if part not in known]
    return registry.unknown(axis, wrong[0], known) if wrong else None


def _backbones(given: dict[str, Node], problems: list[Problem]) -> tuple[str, ...] | None:
    if "backbone" in given and "backbones" in given:
        problems.append(
            given["backbone"].key_problem("given beside backbones, allowed: one of them")
        )
    if "backbones" in given:
        nodes = fields.items(given["backbones"], problems)
    elif "backbone" in given:
        nodes = [given["backbone"]]
    else:
        return None
    names = [fields.value(str, node, problems) for node in nodes]
    found = [
        _backbone(n, at, problems) for n, at in zip(names, nodes, strict=True) if n is not None
    ]
    return tuple(dict.fromkeys(found))


def _backbone(name: str, node: Node, problems: list[Problem]) -> str:
    """The full name of a backbone; a name that no backbone has is a problem."""
    try:
        return backbones.describe(name).name
    except ValueError as error:
        problems.append(node.problem(str(error)))
        return name
