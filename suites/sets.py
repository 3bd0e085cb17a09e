"""The sets that trained runs are evaluated on, as a command line names them.

own                            the test set of the run's own data set
mnist   '{name: mnist, test: 200}'   another data set's, by name or with settings as in a suite
own+jpeg:3   mnist+gaussian_noise    with a corruption in one severity, or in each of the five
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from suites.axes import parts
from suites.document import Problem, SuiteError, parse
from suites.expand import Part
from suites.spec import RunSpec, label

OWN = "own"
_CORRUPTED = re.compile(r"(?P<set>.*?)\+(?P<name>[a-z_]+)(:(?P<severity>\d+))?", re.DOTALL)


@dataclass(frozen=True)
class EvaluationSet:
    """One set: a data set's test images, as they are or corrupted."""

    part: Part | None
    """None for the run's own data set."""
    corruption: str | None = None
    severity: int | None = None

    def of(self, spec: RunSpec) -> Part:
        """The data set of this for a run."""
        return self.part or Part(spec.dataset, spec.trial().dataset_config)

    def is_own(self, spec: RunSpec) -> bool:
        """Whether it is the run's own test set, as it is."""
        return self.corruption is None and self.of(spec) == EvaluationSet(None).of(spec)

    def name(self, spec: RunSpec) -> str:
        """What it is called for a run, as in `mnist[test=200]+jpeg:3`."""
        part = self.of(spec)
        text = label(part.name, part.config)
        return text if self.corruption is None else f"{text}+{self.corruption}:{self.severity}"


def read_sets(texts: Sequence[str]) -> list[EvaluationSet]:
    """The sets that are named, each once; SuiteError with every problem, numbered as the texts are."""
    problems: list[Problem] = []
    found: dict[EvaluationSet, None] = {}
    for number, text in enumerate(texts, 1):
        own: list[Problem] = []
        for one in _read(text, own):
            found[one] = None
        problems += [Problem("--on", number, 1, p.path.partition(".")[2], p.message) for p in own]
    if problems:
        raise SuiteError(problems)
    return list(found)


def _read(text: str, problems: list[Problem]) -> list[EvaluationSet]:
    from adapters import corruptions  # which loads torch, and suites do without it

    corrupted = _CORRUPTED.fullmatch(text.strip())
    given = corrupted["set"] if corrupted else text.strip()
    severities: tuple[int | None, ...] = (None,)
    name = corrupted["name"] if corrupted else None
    if corrupted:
        severities = corruptions.SEVERITIES
        if name not in corruptions.NAMES:
            problems.append(_problem(f"corruption {name!r} given", corruptions.NAMES))
        if corrupted["severity"]:
            severities = (int(corrupted["severity"]),)
            if severities[0] not in corruptions.SEVERITIES:
                problems.append(_problem(f"severity {severities[0]} given", corruptions.SEVERITIES))
    if given == OWN:
        return [EvaluationSet(None, name, severity) for severity in severities]
    root = parse(f"[{given}]", "--on", problems)
    named = {} if root is None else parts("data", root, problems)
    return [EvaluationSet(part, name, severity) for part in named for severity in severities]


def _problem(message: str, allowed: Sequence[object]) -> Problem:
    return Problem("--on", 1, 1, "", f"{message}, allowed: {', '.join(map(str, allowed))}")
