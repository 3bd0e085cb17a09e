"""A suite's YAML as a tree in which every value knows its place, and the errors that name places.

YAML 1.2: `1e-3` is a number, `on` is text. The text is composed, never constructed: tags can make
no objects, repeated keys and odd values become problems, and all of them are found in one pass.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

MAX_BYTES = 1_000_000
_MAX_VALUES = 20_000
"""Of a whole document with its aliases resolved, so that nested aliases cannot fill the memory."""
_SCALARS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")
)
_KEYS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}
_CONTAINERS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

Scalar: TypeAlias = bool | int | float | str | None


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands; lines and columns count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in a suite."""

    file: str
    line: int
    column: int
    path: str
    """Of the setting, as in `methods[2].rank`; empty for the document as a whole."""
    message: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{self.message}"


class SuiteError(ValueError):
    """A suite that cannot be used; its text lists every problem, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass
class Node:
    """One value of the document."""

    value: Scalar | list[Node] | dict[str, Node]
    place: Place
    key: Place
    """Where its key stands; the same as `place` for what has no key."""
    path: str

    @property
    def given(self) -> str:
        """The value as errors show it."""
        if isinstance(self.value, str):
            return repr(self.value)
        shown = json.dumps(self.plain())
        return shown if len(shown) <= 60 else f"{shown[:57]}..."

    def plain(self) -> Any:
        """The value as JSON has it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def problem(self, message: str) -> Problem:
        """A problem with this value, at its own place or, for a list or mapping, at its key."""
        return self._at(self.key if isinstance(self.value, dict | list) else self.place, message)

    def key_problem(self, message: str) -> Problem:
        """A problem with the key under which this value stands."""
        return self._at(self.key, message)

    def _at(self, place: Place, message: str) -> Problem:
        return Problem(place.file, place.line, place.column, self.path, message)


def parse(text: str, file: str, problems: list[Problem]) -> Node | None:
    """The document's tree, or None where there is none; what is wrong goes to `problems`."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        problems.append(Problem(file, 1, 1, "", f"more than {MAX_BYTES} bytes given"))
        return None
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            composed = yaml.compose(text)
        if composed is None:
            problems.append(Problem(file, 1, 1, "", "nothing given, allowed: a mapping"))
            return None
        return _Reader(yaml, file, problems).node(composed, None, "")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.append(Problem(file, line, column, "", f"not YAML: {error.problem}"))
    except YAMLError as error:
        problems.append(Problem(file, 1, 1, "", f"not YAML: {' '.join(str(error).split())}"))
    except RecursionError:
        problems.append(Problem(file, 1, 1, "", "lists or mappings are nested too deeply"))
    return None


class _TooLargeError(YAMLError):
    """The document has too many values."""


class _Reader:
    """From ruamel's nodes to ours."""

    def __init__(self, yaml: YAML, file: str, problems: list[Problem]) -> None:
        self._yaml, self._file, self._problems = yaml, file, problems
        self._count = 0

    def node(self, raw: Any, key: Place | None, path: str) -> Node:
        self._count += 1
        if self._count > _MAX_VALUES:
            raise _TooLargeError(f"more than {_MAX_VALUES} values, aliases resolved")
        place = Place(self._file, raw.start_mark.line + 1, raw.start_mark.column + 1)
        node = Node(None, place, key or place, path)
        if isinstance(raw, MappingNode | SequenceNode) and raw.tag not in _CONTAINERS:
            self._problems.append(node.problem(f"the tag {raw.tag} given, allowed: no tags"))
        elif isinstance(raw, MappingNode):
            node.value = self._mapping(raw, path)
        elif isinstance(raw, SequenceNode):
            node.value = [self.node(v, None, f"{path}[{i}]") for i, v in enumerate(raw.value)]
        else:
            node.value = self._scalar(raw, node)
        return node

    def _mapping(self, raw: MappingNode, path: str) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for raw_key, raw_value in raw.value:
            key = raw_key.value if isinstance(raw_key, ScalarNode) else "?"
            mark = raw_key.start_mark
            place = Place(self._file, mark.line + 1, mark.column + 1)
            child = self.node(raw_value, place, f"{path}.{key}" if path else str(key))
            if not isinstance(raw_key, ScalarNode) or raw_key.tag not in _KEYS:
                self._problems.append(child.key_problem("a key that is not text, allowed: text"))
            elif key in found:
                first = found[key].key
                self._problems.append(
                    child.key_problem(f"repeated key, given first on line {first.line}")
                )
            else:
                found[key] = child
        return found

    def _scalar(self, raw: ScalarNode, node: Node) -> Scalar:
        if raw.tag not in _SCALARS:
            kind = str(raw.tag).removeprefix("tag:yaml.org,2002:")
            message = f"{raw.value!r} ({kind}) given, allowed: text in quotes, numbers, true, false"
            self._problems.append(node.problem(message))
            return None
        try:
            value: Scalar = self._yaml.constructor.construct_object(raw)
        except ValueError:
            value = math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value) or (isinstance(value, int) and abs(value) >= 2**63):
                shown = raw.value if len(raw.value) <= 30 else f"{raw.value[:27]}..."
                self._problems.append(
                    node.problem(f"{shown} given, allowed: finite 64-bit numbers")
                )
                return None
            # 1, 1.0 and 1e0 are one number, whatever the type of the field that takes it.
            if value == int(value) and abs(value) < 2**53:
                return int(value)
        return value


def override(root: Node, overrides: Sequence[str], problems: list[Problem]) -> None:
    """Put each `path.to.setting=value` into the tree; the value is YAML, a missing mapping is made.

    Problems have the file `--set` and the number of the override as their line.
    """
    for number, text in enumerate(overrides, 1):
        path, equals, value_text = text.partition("=")
        path = path.strip()
        here = Place("--set", number, 1)
        if not equals or not path or not value_text.strip():
            message = f"{text!r} given, allowed: path.to.setting=value"
            problems.append(Problem("--set", number, 1, "", message))
            continue
        found: list[Problem] = []
        value = parse(value_text, "--set", found)
        shift = len(text) - len(value_text)
        problems += [Problem("--set", number, p.column + shift, path, p.message) for p in found]
        if value is not None:
            moved = _moved(value, path, number, shift)
            problem = _put(root, path, replace(moved, key=here), here)
            problems += [Problem("--set", number, 1, path, problem)] if problem else []


def _moved(node: Node, path: str, line: int, shift: int) -> Node:
    """`node` as if it stood at `path`, `shift` columns to the right, on line `line`."""
    place = Place(node.place.file, line, node.place.column + shift)
    value = node.value
    if isinstance(value, dict):
        value = {k: _moved(v, f"{path}.{k}", line, shift) for k, v in value.items()}
    elif isinstance(value, list):
        value = [_moved(v, f"{path}[{i}]", line, shift) for i, v in enumerate(value)]
    return Node(value, place, place, path)


def _put(node: Node, path: str, value: Node, here: Place) -> str | None:
    """Set `value` below `node`; what is wrong with the path, or None."""
    steps = path.replace("[", ".").replace("]", "").split(".")
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        done = ".".join(steps[:depth]) or "the suite"
        if isinstance(node.value, dict):
            if last:
                node.value[step] = value
            node = node.value.setdefault(step, Node({}, here, here, ".".join(steps[: depth + 1])))
        elif isinstance(node.value, list):
            if not step.isdecimal() or int(step) >= len(node.value):
                return f"{step!r} given for {done}, allowed: 0 to {len(node.value) - 1}"
            if last:
                node.value[int(step)] = value
            node = node.value[int(step)]
        else:
            return f"{done} is {node.given}, which has no settings of its own"
    return None
