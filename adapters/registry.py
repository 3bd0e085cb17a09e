"""Finding methods, data sets and packaged backbones by their file names: a new file is a new name.

Files that start with an underscore are helpers, not entries. A lab's own files may lie in a folder of
their own: see `adapters.plugins`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

from adapters import plugins

if TYPE_CHECKING:  # the contracts import torch, which the names alone do not need
    from adapters.data.contract import Dataset
    from adapters.method import Method

Kind = Literal["methods", "data", "backbones"]
_REQUIRED = {
    "methods": (
        "FAMILY",
        "PAPER",
        "IDENTITY_AT_START",
        "MERGEABLE",
        "SEMANTICS",
        "Config",
        "attach",
        "count",
    ),
    "data": ("GROUP", "CLASSES", "DIGEST", "SEMANTICS", "Config", "missing", "load"),
    "backbones": ("INFO", "missing", "create"),
}
_FAMILY = ("MEMBERS", "member")
_HELPERS = {"data": {"contract", "splits"}, "backbones": {"contract"}}


class UnknownNameError(ValueError):
    """A name that no file has; the message lists the names that exist."""


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """The names of all entries of a kind, sorted."""
    path = importlib.import_module(f"adapters.{kind}").__path__
    own = plugins.folder()
    if own is not None and plugins.files(own) and str(own / kind) not in path:
        path.append(str(own / kind))
    found = (module.name for module in pkgutil.iter_modules(path) if not module.ispkg)
    skipped = _HELPERS.get(kind, set())
    return tuple(sorted(n for n in found if not n.startswith("_") and n not in skipped))


def method(name: str) -> Method:
    """The module of the method called `name`; UnknownNameError if there is none.

    `lora+miss` is a combination of methods: see `adapters.combine`.
    """
    if "+" in name:
        from adapters.combine import combined

        return combined(name)
    return cast("Method", _module("methods", name))


def count_is_exact(name: str, config: Any) -> bool:
    """Whether the method's `count` is the number itself; False where it is an upper bound."""
    ask = getattr(method(name), "count_is_exact", None)
    return ask is None or bool(ask(config))


def run_check(name: str) -> Callable[[Any, int], None] | None:
    """The method's `check_run(config, steps)`, where it has one."""
    check: Callable[[Any, int], None] | None = getattr(method(name), "check_run", None)
    return check


@cache
def dataset(name: str) -> Dataset:
    """The data set called `name`, as in `mnist` or, of a family, `vtab1k/cifar`; else UnknownNameError."""
    family, slash, member = name.partition("/")
    module = _module("data", family)
    if not hasattr(module, "MEMBERS"):
        if slash:
            raise UnknownNameError(f"data set {name!r} given, but {family} has no members")
        return cast("Dataset", module)
    if not slash:
        known = ", ".join(f"{family}/{known}" for known in module.MEMBERS) or f"{family}/NAME"
        raise UnknownNameError(f"data set {name!r} given, allowed: one of its members: {known}")
    return cast("Dataset", module.member(member))


def datasets() -> tuple[str, ...]:
    """The names of all data sets that are known by name, members of families among them, sorted."""
    found: list[str] = []
    for name in names("data"):
        members = getattr(_module("data", name), "MEMBERS", None)
        found += [name] if members is None else [f"{name}/{member}" for member in members]
    return tuple(sorted(found))


def families_of_your_own() -> tuple[str, ...]:
    """The families of data sets whose members are folders of the user's."""
    return tuple(n for n in names("data") if getattr(_module("data", n), "MEMBERS", None) == ())


def downloader(name: str) -> Callable[[], None] | None:
    """What downloads the data set into the data root; None where nothing can."""
    family, _, member = name.partition("/")
    download = getattr(_module("data", family), "download", None)
    return partial(download, member) if download is not None else None


def classes(name: str, config: Any) -> int:
    """How many classes the data set has, with these settings of it."""
    fixed = dataset(name).CLASSES
    return int(config.classes) if fixed is None else fixed


def declared_digest(name: str, config: Any) -> str | None:
    """The digest that the images of the data set must have; None where nobody declared one."""
    given: str | None = getattr(config, "digest", None)
    return dataset(name).DIGEST if given is None else given


def trained_classes(name: str) -> int | None:
    """How many classes a model must tell apart to be scored on a set that is for evaluation only.

    None for a data set that has training images.
    """
    count: int | None = getattr(dataset(name), "TRAINED_CLASSES", None)
    return count


def backbone(name: str) -> ModuleType:
    """The module of the packaged backbone called `name`; UnknownNameError if there is none."""
    return _module("backbones", name)


@cache
def _module(kind: Kind, name: str) -> ModuleType:
    if name not in names(kind):
        raise UnknownNameError(unknown(kind.removesuffix("s"), name, names(kind)))
    module = importlib.import_module(f"adapters.{kind}.{name}")
    wanted = _FAMILY if hasattr(module, "MEMBERS") else _REQUIRED[kind]
    lacking = [attribute for attribute in wanted if not hasattr(module, attribute)]
    if lacking:
        raise TypeError(f"{module.__file__}: lacks {', '.join(lacking)}, which every entry offers")
    return module


def unknown(what: str, given: str, allowed: Iterable[str]) -> str:
    """The message for a name that does not exist: what was given, the nearest, and all there are."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {given!r}.{hint} Known: {', '.join(allowed)}"
