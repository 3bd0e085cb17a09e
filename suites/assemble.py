"""Putting a suite together: which rules apply where, what fits, how many cells there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as fields_of

from adapters import backbones, fitting, registry
from adapters.preprocess import Preprocess
from adapters.spec import TrainConfig, type_hints
from suites import fields, spec
from suites.axes import Axes, Exclude, Override
from suites.document import Node, Problem
from suites.expand import Block, Part, Recipes
from suites.fields import MAX_CELLS, Choice, Settings
from suites.protocol import Protocol
from suites.schema import Resources


@dataclass
class Assembly:
    """The grids of a suite, checked one after another."""

    overrides: Sequence[Override]
    excludes: Sequence[Exclude]
    problems: list[Problem]
    preprocess: Preprocess = field(default_factory=Preprocess)
    resources: Resources = field(default_factory=Resources)
    protocol: Protocol | None = None
    blocks: list[tuple[Block, Recipes]] = field(default_factory=list)
    _cells: int = 0
    _overriding: set[int] = field(default_factory=set)
    """Which of `overrides` matched a cell."""
    _excluding: set[int] = field(default_factory=set)
    _labels: dict[str, Node] = field(default_factory=dict)
    """The entry that each label stands in."""

    def add(self, axes: Axes) -> None:
        """Check one complete grid and keep it."""
        methods, datasets = axes.methods or {}, axes.datasets or {}
        block = Block(
            backbones=axes.backbones or (),
            datasets=tuple(datasets),
            methods=tuple(methods),
            seeds=axes.seeds or (),
            overrides=tuple(override.rule for override in self.overrides),
            excludes=tuple(exclude.rule for exclude in self.excludes),
            preprocess=self.preprocess,
        )
        size = len(block.backbones) * len(datasets) * len(methods) * len(block.seeds)
        if size > MAX_CELLS:
            self.problems.append(axes.node.problem(f"{size} cells given, allowed: {MAX_CELLS}"))
            return
        recipes: dict[tuple[int, ...], tuple[TrainConfig, ...]] = {}
        pairs: dict[tuple[str, Part], None] = {}
        checked = {method for method in methods if registry.run_check(method.name)}
        lengths: dict[tuple[Part, Part, tuple[int, ...]], None] = {}
        sizes: dict[tuple[Part, tuple[int, ...]], None] = {}
        for point in block.points():
            self._excluding.update(point.excludes)
            if point.excludes:
                continue
            self._overriding.update(point.overrides)
            if point.overrides not in recipes:
                recipes[point.overrides] = self._recipe(axes, point.overrides)
                self._shape(point.overrides)
            pairs[point.backbone, point.method] = None
            sizes[point.dataset, point.overrides] = None
            if point.method in checked:
                lengths[point.method, point.dataset, point.overrides] = None
            self._cells += len(recipes[point.overrides]) * len(point.seeds)
        if not size:
            self._recipe(axes, ())  # for its problems, beside those that left no combination
        for method, node in methods.items():
            if method.label and self._labels.setdefault(method.label, node) is not node:
                message = f"label: {method.label} given, which another entry has"
                self.problems.append(node.problem(message))
        for backbone, method in pairs:
            self._fit(backbone, method, methods[method])
        before = len(self.problems)
        for dataset, applied in sizes:
            self._steps(dataset, recipes[applied], axes.node)
        if len(self.problems) > before:
            lengths.clear()  # no run of these recipes has a length to ask methods about
        for method, dataset, applied in lengths:
            self._last(method, dataset, recipes[applied], methods[method])
        self.blocks.append((block, recipes))

    def finish(self, root: Node) -> None:
        """Check what only all grids together can show; to be called when nothing else is wrong."""
        rules: list[tuple[Override | Exclude, bool]] = []
        rules += [(o, i in self._overriding) for i, o in enumerate(self.overrides)]
        rules += [(e, i in self._excluding) for i, e in enumerate(self.excludes)]
        for rule, is_used in rules:
            absent = self._absent(rule)
            if absent:
                message = f"matches no cell: the suite has no {', no '.join(absent)}"
                self.problems.append(rule.node.problem(message))
            elif not is_used:
                self.problems.append(rule.node.problem("matches no cell"))
        if not self._cells:
            self.problems.append(root.problem("0 cells: every combination is excluded"))
        if self._cells > MAX_CELLS:
            message = f"{self._cells} cells given, allowed: {MAX_CELLS}"
            self.problems.append(root.problem(message))

    def varying(self, grid: Collection[str]) -> tuple[str, ...]:
        """The train settings in `grid` and those that differ between cells, in a fixed order."""
        trains = {
            train for _, recipes in self.blocks for each in recipes.values() for train in each
        }
        return tuple(
            name
            for name in type_hints(TrainConfig)
            if name in grid or len({getattr(train, name) for train in trains}) > 1
        )

    def _recipe(self, axes: Axes, applied: Sequence[int]) -> tuple[TrainConfig, ...]:
        settings = axes.train
        for index in applied:
            settings = settings | self.overrides[index].train
        given = axes.node.value if isinstance(axes.node.value, dict) else {}
        return fields.configs(TrainConfig, settings, given.get("train", axes.node), self.problems)

    def _shape(self, applied: Sequence[int]) -> None:
        """Check what these overrides make of the suite's resources together."""
        chosen = [self.overrides[index] for index in applied if self.overrides[index].resources]
        if not chosen:
            return
        node = chosen[-1].node
        usual = {item.name: getattr(self.resources, item.name) for item in fields_of(Resources)}
        settings: Settings = {name: (Choice(value, node),) for name, value in usual.items()}
        for each in chosen:
            settings |= each.resources
        fields.configs(Resources, settings, node, self.problems)

    def _fit(self, backbone: str, method: Part, node: Node) -> None:
        try:
            dims = backbones.describe(backbone).dims
        except ValueError:
            return  # reported where it is named
        try:
            fitting.check(method.name, method.config, dims)
            count = registry.method(method.name).count(method.config, dims)
        except ValueError as error:
            self.problems.append(node.problem(f"on {backbone}: {error}"))
            return
        over = self.protocol.fairness.over_budget(count) if self.protocol else None
        if over is not None:
            label = spec.label(method.name, method.config)
            self.problems.append(node.problem(f"on {backbone}: {label} has {over}"))

    def _steps(self, dataset: Part, recipes: Sequence[TrainConfig], node: Node) -> None:
        """Check that the recipes leave an epoch on the data set at least one step."""
        for train in recipes:
            try:
                train.steps(dataset.config)
            except ValueError as error:
                self.problems.append(node.problem(f"on {dataset.name}: {error}"))
                return

    def _last(
        self, method: Part, dataset: Part, recipes: Sequence[TrainConfig], node: Node
    ) -> None:
        """Ask the method whether its settings fit the lengths of these runs, finals included."""
        check = registry.run_check(method.name)
        assert check is not None
        trains = list(recipes)
        if self.protocol is not None:
            trains += map(self.protocol.final_train, recipes)
        for steps in dict.fromkeys(train.steps(dataset.config) for train in trains):
            try:
                check(method.config, steps)
            except ValueError as error:
                self.problems.append(node.problem(f"on {dataset.name}: {error}"))

    def _absent(self, rule: Override | Exclude) -> list[str]:
        """Those of the rule's names that the suite does not have."""
        used: dict[str, set[str | int]] = {
            "backbone": {name for block, _ in self.blocks for name in block.backbones},
            "dataset": {part.name for block, _ in self.blocks for part in block.datasets},
            "method": {part.name for block, _ in self.blocks for part in block.methods},
            "seed": {seed for block, _ in self.blocks for seed in block.seeds},
        }
        return [
            f"{axis} {name}"
            for axis, names in rule.rule.when.items()
            for name in sorted(names - used[axis], key=str)
        ]
