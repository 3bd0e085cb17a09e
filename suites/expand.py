"""From axes to trials: blocks of backbones x data sets x methods x train settings x seeds.

Only names and validated configs are held; a trial is made when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import Any, Literal, NamedTuple

from adapters.preprocess import Preprocess
from adapters.spec import TrainConfig, TrialSpec
from suites.spec import (
    Configuration,
    Frame,
    RunSpec,
    count_is_exact,
    label,
    shown,
    trainable_params,
)

Stage = Literal["single", "tune", "final"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a suite. Its stage and axes belong to the suite and not to the run's identity."""

    spec: RunSpec
    stage: Stage
    place: Place
    selected_from: str | None = None
    """The `config_id` of the tune cell that won, for a final cell."""

    @property
    def axes(self) -> dict[str, str]:
        """Axis -> value: backbone, dataset, method, seed, and `train.<name>` for settings that vary."""
        return {**self.place.axes, "seed": str(self.spec.seed)}


class Place(NamedTuple):
    """What the cells of one configuration share beside their science."""

    axes: Mapping[str, str]
    """As of the cells, with an empty seed in its place."""
    trainable_params: int
    """How many elements each run trains, head included, in closed form."""
    count_is_exact: bool
    """False where the weights decide and `trainable_params` is an upper bound."""


@dataclass(frozen=True)
class Part:
    """A method or a data set with its validated settings."""

    name: str
    config: Any
    label: str | None = field(default=None, compare=False)
    """The suite's own name for a method; no part of its identity."""


class Point(NamedTuple):
    """A combination of the axes, and those of its seeds to which the same rules apply."""

    backbone: str
    dataset: Part
    method: Part
    seeds: Sequence[int]
    overrides: tuple[int, ...]
    """The overrides that apply here, in order."""
    excludes: tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """The condition of an override or an exclude: axis -> the names of which a cell has one."""

    when: Mapping[str, frozenset[str | int]]

    def matches(self, names: Mapping[str, str | int]) -> bool:
        """Whether a cell with these names is meant."""
        return all(names[axis] in allowed for axis, allowed in self.when.items())


@dataclass(frozen=True)
class Block:
    """One grid."""

    backbones: tuple[str, ...]
    datasets: tuple[Part, ...]
    methods: tuple[Part, ...]
    seeds: Sequence[int]
    overrides: tuple[Rule, ...]
    excludes: tuple[Rule, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)

    def points(self) -> Iterator[Point]:
        """Every combination, the excluded ones too."""
        by_seed = any("seed" in rule.when for rule in (*self.overrides, *self.excludes))
        for combination in product(self.backbones, self.datasets, self.methods):
            backbone, dataset, method = combination
            names = {"backbone": backbone, "dataset": dataset.name, "method": method.name}
            if not by_seed:
                yield Point(*combination, self.seeds, *self._rules(names))
                continue
            alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
            for seed in self.seeds:
                alike.setdefault(self._rules({**names, "seed": seed}), []).append(seed)
            for rules, seeds in alike.items():
                yield Point(*combination, seeds, *rules)

    def _rules(self, names: Mapping[str, str | int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which overrides and which excludes apply to a cell with these names."""
        return (
            tuple(i for i, rule in enumerate(self.overrides) if rule.matches(names)),
            tuple(i for i, rule in enumerate(self.excludes) if rule.matches(names)),
        )


Recipes = Mapping[tuple[int, ...], tuple[TrainConfig, ...]]
"""The train settings of a block's cells, by the overrides that apply."""


def cells(block: Block, recipes: Recipes, stage: Stage, varying: Sequence[str]) -> Iterator[Cell]:
    """The cells of a block that no exclude takes out; of one configuration, all seeds in a row."""
    for _, points in groupby(block.points(), key=lambda point: point[:3]):
        kept = [point for point in points if not point.excludes]
        if not kept:
            continue
        group = _Group(_trial(kept[0], block.preprocess), kept[0].method.label)
        applied = {seed: point.overrides for point in kept for seed in point.seeds}
        seeds = [seed for seed in block.seeds if seed in applied]
        for position in range(max(len(recipes[point.overrides]) for point in kept)):
            made = {
                point.overrides: group.configuration(recipes[point.overrides][position], varying)
                for point in kept
                if position < len(recipes[point.overrides])
            }
            for seed in seeds:
                if (found := made.get(applied[seed])) is not None:
                    configuration, place = found
                    yield Cell(configuration.run(seed), stage, place)


def cell(
    trial: TrialSpec,
    stage: Stage,
    varying: Sequence[str],
    selected_from: str | None = None,
    *,
    named: str | None = None,
) -> Cell:
    """The cell of a trial; `varying` are the train settings that belong to its axes.

    `named` is the suite's own name for the method.
    """
    configuration, place = _Group(trial, named).configuration(trial.train, varying)
    return Cell(configuration.run(trial.seed), stage, place, selected_from)


class _Group:
    """The cells of one method on one data set and backbone."""

    def __init__(self, trial: TrialSpec, named: str | None) -> None:
        self._frame, self._named = Frame(trial), named
        self._dataset = label(trial.dataset, trial.dataset_config)
        self._counted = trainable_params(trial), count_is_exact(trial)

    def configuration(
        self, train: TrainConfig, varying: Sequence[str]
    ) -> tuple[Configuration, Place]:
        """Those with the recipe `train`."""
        axes = {
            "backbone": self._frame.shared["backbone"]["name"],
            "dataset": self._dataset,
            "method": self._frame.variant,
            "seed": "",
        }
        axes |= {f"train.{name}": shown(getattr(train, name)) for name in varying}
        if self._named is not None:
            axes["label"] = self._named
        return self._frame.configuration(train), Place(axes, *self._counted)


def _trial(point: Point, preprocess: Preprocess) -> TrialSpec:
    """One with what the point fixes, and any recipe and seed."""
    return TrialSpec(
        backbone=point.backbone,
        dataset=point.dataset.name,
        dataset_config=point.dataset.config,
        method=point.method.name,
        method_config=point.method.config,
        preprocess=preprocess,
    )
