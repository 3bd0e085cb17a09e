"""A suite, loaded: what runs it asks for, and how they are to be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from suites.expand import Block, Cell, Recipes, Rule, cells
from suites.protocol import Candidate, Group, Protocol, groups
from suites.schema import Execution, Keep, Resources, Retry
from suites.spec import RunSpec

__all__ = ["Candidate", "Cell", "Group", "Suite"]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A validated suite. Made by `suites.load`."""

    name: str
    question: str | None
    file: str
    text: str = field(repr=False)
    """The YAML as given."""
    overrides: tuple[str, ...]
    """As given with `--set`."""
    digest: str
    """SHA-256 (hex) of what the file says with the overrides applied; style does not matter."""
    resources: Resources
    """Of the jobs of runs for which `reshaped` says nothing else."""
    reshaped: tuple[tuple[Rule, Mapping[str, Any]], ...] = ()
    """What overrides make of the resources: which runs they mean, and the settings that they give."""
    execution: Execution
    retry: Retry
    keep: Keep
    protocol: Protocol | None
    blocks: tuple[tuple[Block, Recipes], ...] = field(repr=False)
    varying: tuple[str, ...]
    """Train settings that are not the same in all cells."""

    def cells(self) -> Iterator[Cell]:
        """The runs in the order of the axes, each once; with a protocol the tune cells."""
        seen: set[str] = set()
        for block, recipes in self.blocks:
            for found in cells(block, recipes, "tune" if self.protocol else "single", self.varying):
                if found.spec.run_id not in seen:
                    seen.add(found.spec.run_id)
                    yield found

    def shape(self, spec: RunSpec) -> Resources:
        """What a job asks for that does this run; the last override that gives a setting holds."""
        if not self.reshaped:
            return self.resources
        names: dict[str, str | int] = {
            "backbone": spec.backbone,
            "dataset": spec.dataset,
            "method": spec.method,
            "seed": spec.seed,
        }
        given = [settings for rule, settings in self.reshaped if rule.matches(names)]
        changes = {name: value for settings in given for name, value in settings.items()}
        return replace(self.resources, **changes)

    def groups(self) -> list[Group]:
        """What a protocol selects from, in the order of the axes; empty without a protocol."""
        return groups(self.cells(), self.protocol, self.varying) if self.protocol else []
