"""What a protocol may ask for so that methods compete on equal terms, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adapters.spec import at_least

if TYPE_CHECKING:
    from suites.protocol import Group


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """The terms of a comparison. Preprocessing is the same for all methods in any case."""

    tuning_runs: Literal["equal", "any"] = "any"
    """`equal`: on one backbone and data set every selection has as many tuning runs."""
    max_adapter_params: int | None = None
    """Most parameters that a candidate may train, its head left out; None for no limit."""

    def __post_init__(self) -> None:
        if self.max_adapter_params is not None:
            at_least(1, max_adapter_params=self.max_adapter_params)

    def over_budget(self, count: int) -> str | None:
        """What is wrong with a candidate that trains `count` parameters; None where nothing is."""
        if self.max_adapter_params is None or count <= self.max_adapter_params:
            return None
        return (
            f"{count:,} trainable parameters without the head, allowed: "
            f"{self.max_adapter_params:,} (protocol.fairness.max_adapter_params)"
        )

    def unequal(self, groups: Iterable[Group]) -> str | None:
        """Where selections that compete have different numbers of tuning runs; None where none do."""
        if self.tuning_runs == "any":
            return None
        by_place: dict[tuple[str, ...], dict[str, int]] = {}
        for group in groups:
            place = tuple(v for k, v in group.key.items() if k not in ("method", "variant"))
            name = " ".join(v for k, v in group.key.items() if k in ("method", "variant"))
            by_place.setdefault(place, {})[name] = group.tuning_runs
        for place, runs in by_place.items():
            if len(set(runs.values())) > 1:
                counts = ", ".join(f"{name} {count}" for name, count in runs.items())
                return (
                    f"tuning_runs: equal given, but on {', '.join(place)} they are: {counts}; "
                    "allowed: one number"
                )
        return None
