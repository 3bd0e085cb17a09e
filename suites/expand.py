"""From axes to trials: blocks of backbones x data sets x methods x train settings x seeds.

Only names and validated configs are held; a trial is made when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, NamedTuple

from adapters.preprocess import Preprocess
from adapters.spec import TrainConfig, TrialSpec
from suites.spec import RunSpec, label, run_spec, shown

Stage = Literal["single", "tune", "final"]


@dataclass(frozen=True)
class Cell:
    """One run of a suite. Its stage and axes belong to the suite and not to the run's identity."""

    spec: RunSpec
    stage: Stage
    axes: dict[str, str]
    """Axis -> value: backbone, dataset, method, seed, and `train.<name>` for settings that vary."""
    selected_from: str | None = None
    """The `config_id` of the tune cell that won, for a final cell."""


@dataclass(frozen=True)
class Part:
    """A method or a data set with its validated settings."""

    name: str
    config: Any


class Point(NamedTuple):
    """A combination of the axes that overrides and excludes can name."""

    backbone: str
    dataset: Part
    method: Part
    seed: int
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
        """Every combination, the excluded ones too; seeds change fastest."""
        for backbone, dataset, method, seed in product(
            self.backbones, self.datasets, self.methods, self.seeds
        ):
            names: dict[str, str | int] = {
                "backbone": backbone,
                "dataset": dataset.name,
                "method": method.name,
                "seed": seed,
            }
            yield Point(
                backbone,
                dataset,
                method,
                seed,
                tuple(i for i, rule in enumerate(self.overrides) if rule.matches(names)),
                tuple(i for i, rule in enumerate(self.excludes) if rule.matches(names)),
            )


Recipes = Mapping[tuple[int, ...], tuple[TrainConfig, ...]]
"""The train settings of a block's cells, by the overrides that apply."""


def trials(block: Block, recipes: Recipes) -> Iterator[TrialSpec]:
    """The trials of a block that no exclude takes out; of one configuration, all seeds in a row."""
    pending: list[tuple[int, TrialSpec]] = []
    last: tuple[str, Part, Part] | None = None
    for point in block.points():
        if point[:3] != last:
            yield from _in_order(pending)
            pending, last = [], point[:3]
        if not point.excludes:
            pending += [
                (position, _trial(point, train, block.preprocess))
                for position, train in enumerate(recipes[point.overrides])
            ]
    yield from _in_order(pending)


def cell(
    trial: TrialSpec, stage: Stage, varying: Sequence[str], selected_from: str | None = None
) -> Cell:
    """The cell of a trial; `varying` are the train settings that belong to its axes."""
    spec = run_spec(trial)
    axes = {
        "backbone": spec.backbone,
        "dataset": label(trial.dataset, trial.dataset_config),
        "method": spec.variant,
        "seed": str(trial.seed),
    }
    axes |= {f"train.{name}": shown(getattr(trial.train, name)) for name in varying}
    return Cell(spec=spec, stage=stage, axes=axes, selected_from=selected_from)


def _in_order(pending: list[tuple[int, TrialSpec]]) -> Iterator[TrialSpec]:
    return (trial for _, trial in sorted(pending, key=lambda entry: entry[0]))


def _trial(point: Point, train: TrainConfig, preprocess: Preprocess) -> TrialSpec:
    return TrialSpec(
        backbone=point.backbone,
        dataset=point.dataset.name,
        dataset_config=point.dataset.config,
        method=point.method.name,
        method_config=point.method.config,
        train=train,
        seed=point.seed,
        preprocess=preprocess,
    )
