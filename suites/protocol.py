"""The two-stage protocol: tune cells compete on validation, each winner makes the final cells.

Whatever `select.per` does not name competes: the tune grid always, and the settings of a method too
where `per` says `method` and not `variant`. Finals are ordinary runs with the winner's settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from adapters.spec import TrainConfig, TrialSpec
from suites.expand import Cell, cell
from suites.fairness import Fairness

SET_BY_PROTOCOL = ("fit", "select_epoch", "score")
"""Train settings that a suite with a protocol leaves to it."""


@dataclass(frozen=True, kw_only=True)
class Select:
    """How the winner of a group is chosen."""

    per: tuple[Literal["backbone", "dataset", "method", "variant"], ...] = ("variant", "dataset")
    metric: str = "val/top1"
    rule: Literal["best_val", "last_epoch"] = "best_val"
    """The epoch whose validation metric counts."""

    def __post_init__(self) -> None:
        if "dataset" not in self.per or not {"method", "variant"} & set(self.per):
            raise ValueError(
                f"per: {list(self.per)} given, allowed: dataset, variant or method, and backbone; "
                "settings can only compete on one data set"
            )
        if not re.fullmatch(r"val/[a-z0-9_]+", self.metric):
            raise ValueError(
                f"metric: {self.metric!r} given, allowed: a validation metric such as val/top1; "
                "selecting on another split would leak it into the choice"
            )


@dataclass(frozen=True, kw_only=True)
class Final:
    """What the winners are trained on and scored by."""

    fit: Literal["train", "train+val"] = "train"
    """`train+val` leaves nothing to select an epoch on, so the last one is scored."""
    score: Literal["test"] = "test"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A suite's protocol, read."""

    grid: tuple[str, ...]
    """The train settings that `tune.grid` names."""
    tune_seeds: Sequence[int]
    select: Select
    final: Final
    final_seeds: Sequence[int]
    """The suite's seeds."""
    fairness: Fairness = field(default_factory=Fairness)

    def final_train(self, train: TrainConfig) -> TrainConfig:
        """The recipe of the finals of a winner with the recipe `train`."""
        fit = self.final.fit
        return replace(
            train,
            fit=fit,
            select_epoch="last_epoch" if fit == "train+val" else self.select.rule,
            score=self.final.score,
        )


@dataclass(frozen=True)
class Candidate:
    """One configuration that takes part in a selection."""

    config_id: str
    run_ids: tuple[str, ...]
    """Its tune cells, one for each tune seed, in order."""
    settings: dict[str, Any]
    """The train settings that vary, with this candidate's values."""
    trainable_params: int
    trial: TrialSpec = field(repr=False)
    """The trial of its first tune seed."""
    named: str | None = None
    """The suite's own name for the method, where its entry has one."""


@dataclass(frozen=True)
class Group:
    """What is selected from, and the finals that the winner makes."""

    key: dict[str, str]
    """A value for each entry of `select.per`."""
    candidates: tuple[Candidate, ...]
    """In the order of the axes."""
    protocol: Protocol = field(repr=False)

    @property
    def final_count(self) -> int:
        """How many final cells a winner makes."""
        return len(self.protocol.final_seeds)

    @property
    def tuning_runs(self) -> int:
        """How many runs the selection costs."""
        return sum(len(candidate.run_ids) for candidate in self.candidates)

    def finals(self, winner: Candidate) -> list[Cell]:
        """The final cells of `winner`, one for each seed of the suite."""
        assert winner in self.candidates
        train = self.protocol.final_train(winner.trial.train)
        return [
            cell(
                replace(winner.trial, train=train, seed=seed),
                "final",
                tuple(winner.settings),
                winner.config_id,
                named=winner.named,
            )
            for seed in self.protocol.final_seeds
        ]


def groups(tune_cells: Iterable[Cell], protocol: Protocol, varying: Sequence[str]) -> list[Group]:
    """The groups of a suite's tune cells, in their order."""
    grouped: dict[tuple[str, ...], dict[str, list[Cell]]] = {}
    for tune_cell in tune_cells:
        spec = tune_cell.spec
        values = {**tune_cell.axes, "method": spec.method, "variant": spec.variant}
        key = tuple(values[name] for name in protocol.select.per)
        grouped.setdefault(key, {}).setdefault(spec.config_id, []).append(tune_cell)
    return [
        Group(
            key=dict(zip(protocol.select.per, key, strict=True)),
            candidates=tuple(_candidate(cells, varying) for cells in by_config.values()),
            protocol=protocol,
        )
        for key, by_config in grouped.items()
    ]


def _candidate(cells: list[Cell], varying: Sequence[str]) -> Candidate:
    spec, trial = cells[0].spec, cells[0].spec.trial()
    return Candidate(
        config_id=spec.config_id,
        run_ids=tuple(each.spec.run_id for each in cells),
        settings={name: getattr(trial.train, name) for name in varying},
        trainable_params=cells[0].place.trainable_params,
        trial=trial,
        named=cells[0].axes.get("label"),
    )
