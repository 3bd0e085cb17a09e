"""Reading a suite strictly: every mistake at once, each with its place, and nothing guessed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.preprocess import Preprocess
from suites import catalog, fields
from suites.assemble import Assembly
from suites.axes import AXES, Axes, read_axes, read_excludes, read_overrides, read_seeds, read_train
from suites.document import MAX_BYTES, Node, Problem, SuiteError, override, parse
from suites.fairness import Fairness
from suites.fields import Choice, Settings
from suites.protocol import SET_BY_PROTOCOL, Final, Protocol, Select
from suites.schema import Execution, Header, Keep, Resources, Retry
from suites.suite import Suite

__all__ = ["Problem", "SuiteError", "load", "loads"]

_FIXED = {
    "preprocess": Preprocess,
    "resources": Resources,
    "execution": Execution,
    "retry": Retry,
    "store": Keep,
}
_OTHER_KEYS = (*AXES, "overrides", "exclude", "grids", "protocol", *_FIXED)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """The suite in the file `source`, or the shipped one of that name.

    `overrides` are `path.to.setting=value`, applied to the file before it is read. Whatever is
    wrong comes in one SuiteError, each problem with its place.
    """
    file = Path(source)
    if isinstance(source, str) and re.fullmatch(r"[\w-]+", source) and not file.is_file():
        try:
            file = catalog.path(source)
        except ValueError as error:
            raise SuiteError([Problem(source, 1, 1, "", str(error))]) from None
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise SuiteError([Problem(str(source), 1, 1, "", str(error.strerror))]) from None
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8"
        raise SuiteError([Problem(str(source), 1, 1, "", message)]) from None
    return loads(text, file=str(file), overrides=overrides)


def loads(text: str, *, file: str = "<text>", overrides: Sequence[str] = ()) -> Suite:
    """The suite that `text` describes; `file` is its name in errors. Raises as `load` does."""
    problems: list[Problem] = []
    root = parse(text, file, problems)
    if root is None:
        raise SuiteError(problems)
    if not isinstance(root.value, dict):
        raise SuiteError([*problems, root.problem(f"{root.given} given, allowed: a mapping")])
    override(root, overrides, problems)
    given = root.value
    header = fields.one(Header, root, problems, extra=_OTHER_KEYS)
    fixed: dict[str, Any] = {
        key: _fixed(cls, given.get(key), problems) for key, cls in _FIXED.items()
    }
    assembly = Assembly(
        overrides=read_overrides(given["overrides"], problems) if "overrides" in given else [],
        excludes=read_excludes(given["exclude"], problems) if "exclude" in given else [],
        problems=problems,
        preprocess=fixed["preprocess"] or Preprocess(),
        resources=fixed["resources"] or Resources(),
    )
    grids = _grids(root, given, problems)
    protocol = stages = None
    if "protocol" in given:
        stages = _stages(given["protocol"], problems)
        problems += stages.conflicts(given, grids, assembly)
        protocol = assembly.protocol = stages.protocol(grids)
        grids = [stages.tuned(axes) for axes in grids]
    for axes in grids:
        assembly.add(axes)
    if not problems:
        assembly.finish(root)
    if problems:
        raise SuiteError(problems)
    assert header is not None
    assert None not in fixed.values()
    canonical = json.dumps(root.plain(), sort_keys=True, separators=(",", ":"))
    suite = Suite(
        name=header.suite,
        question=header.question,
        file=file,
        text=text,
        overrides=tuple(overrides),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        resources=fixed["resources"],
        reshaped=tuple(
            (each.rule, {name: choices[0].value for name, choices in each.resources.items()})
            for each in assembly.overrides
            if each.resources
        ),
        execution=fixed["execution"],
        retry=fixed["retry"],
        keep=fixed["store"],
        protocol=protocol,
        blocks=tuple(assembly.blocks),
        varying=assembly.varying(protocol.grid if protocol else ()),
    )
    if stages is not None and (unequal := stages.fairness.unequal(suite.groups())) is not None:
        raise SuiteError([stages.fairness_node.problem(unequal)])
    return suite


def _fixed(cls: type[Any], node: Node | None, problems: list[Problem]) -> Any | None:
    return cls() if node is None else fields.one(cls, node, problems)


def _grids(root: Node, given: dict[str, Node], problems: list[Problem]) -> list[Axes]:
    """The grids of the suite, each complete; without `grids` the top level is the only one."""
    top = read_axes(root, problems)
    own = [top]
    if "grids" in given:
        nodes = fields.items(given["grids"], problems)
        own = [read_axes(node, problems, alone=True) for node in nodes]
        for key in ("backbone", "backbones", "methods", "datasets", "seeds"):
            name = "backbones" if key == "backbone" else key
            if key in given and own and all(getattr(axes, name) is not None for axes in own):
                message = "has no effect: every grid has its own"
                problems.append(given[key].key_problem(message))
    grids = [axes.over(top) for axes in own]
    for axes in grids:
        names = {"backbone": axes.backbones, "methods": axes.methods, "datasets": axes.datasets}
        lacking = [name for name, values in names.items() if values is None]
        if lacking:
            problems.append(axes.node.problem(f"lacks {', '.join(lacking)}"))
    return [axes if axes.seeds is not None else replace(axes, seeds=range(1)) for axes in grids]


@dataclass(frozen=True)
class _Stages:
    """A protocol as the file has it."""

    node: Node
    grid: Settings
    tune_seeds: Sequence[int]
    select: Select
    select_node: Node
    final: Final
    fairness: Fairness
    fairness_node: Node

    def protocol(self, grids: Sequence[Axes]) -> Protocol:
        """For the suite, whose seeds are those of the finals."""
        return Protocol(
            grid=tuple(self.grid),
            tune_seeds=self.tune_seeds,
            select=self.select,
            final=self.final,
            final_seeds=grids[0].seeds or () if grids else (),
            fairness=self.fairness,
        )

    def tuned(self, axes: Axes) -> Axes:
        """A grid with the seeds and train settings of its tune cells."""
        fixed: Settings = {
            "select_epoch": (Choice(self.select.rule, self.select_node),),
            "score": (Choice("none", self.node),),
        }
        return replace(axes, seeds=self.tune_seeds, train=axes.train | self.grid | fixed)

    def conflicts(
        self, given: dict[str, Node], grids: Sequence[Axes], assembly: Assembly
    ) -> list[Problem]:
        """What stands elsewhere in the suite and would have no effect beside the protocol."""
        found = []
        if "grids" in given:
            found.append(given["grids"].key_problem("given with protocol, allowed: one of them"))
        trains = [axes.train for axes in grids]
        for train in (*trains, self.grid, *(o.train for o in assembly.overrides)):
            for name in SET_BY_PROTOCOL:
                if name in train:
                    message = f"{name} given, but the protocol sets it (select.rule, final.fit)"
                    found.append(train[name][0].node.key_problem(message))
        for train in trains:
            for name in sorted(train.keys() & self.grid.keys()):
                message = "has no effect: protocol.tune.grid gives it too"
                found.append(train[name][0].node.key_problem(message))
        message = "seed given, allowed with a protocol: method, dataset, backbone"
        found += [o.node.problem(message) for o in assembly.overrides if "seed" in o.rule.when]
        found += [e.node.problem(message) for e in assembly.excludes if "seed" in e.rule.when]
        if (
            any(len(axes.backbones or ()) > 1 for axes in grids)
            and "backbone" not in self.select.per
        ):
            message = (
                f"per: {list(self.select.per)} given, allowed: with backbone, as there are several"
            )
            found.append(self.select_node.problem(message))
        return found


def _stages(node: Node, problems: list[Problem]) -> _Stages:
    given = fields.entries(node, ("tune", "select", "final", "fairness"), problems)
    tune = given.get("tune")
    within = {} if tune is None else fields.entries(tune, ("grid", "seeds"), problems)
    if "grid" not in within:
        problems.append((tune or node).problem("lacks the grid, as in tune: {grid: {lr: [...]}}"))
    return _Stages(
        node=node,
        grid=read_train(within["grid"], problems) if "grid" in within else {},
        tune_seeds=read_seeds(within["seeds"], problems) if "seeds" in within else range(1),
        select=_fixed(Select, given.get("select"), problems) or Select(),
        select_node=given.get("select", node),
        final=_fixed(Final, given.get("final"), problems) or Final(),
        fairness=_fixed(Fairness, given.get("fairness"), problems) or Fairness(),
        fairness_node=given.get("fairness", node),
    )
