"""A ViT with methods on it: what trains, which of several is active, and merging into plain weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapters import registry
from adapters.anatomy import UnfitError
from adapters.fitting import named
from adapters.inject import adapted_modules, is_head
from adapters.layout import Layout, difference, layout_of, put
from adapters.method import StepHook


def adapt(vit: nn.Module, method: str, config: Any, generator: torch.Generator) -> Adapted:
    """As `adapters.attach`, for a ViT that nobody needs back: what trains of it is not copied first."""
    adapted = Adapted(vit)
    adapted.add("default", method, config, generator, keep_base=False)
    return adapted


@dataclass(frozen=True)
class Adapter:
    """One adapter of a ViT: its method, the names of its tensors, and how it is put on and taken off."""

    method: str
    config: Any
    seed: int | None
    parameters: tuple[str, ...]
    """Names of the trained tensors but the head's; names hold while this adapter is active."""
    head: tuple[str, ...]
    buffers: tuple[str, ...]
    off: Layout
    on: Layout
    reversible: bool
    """Whether taking it off gives the ViT back as it was."""


class Adapted:
    """A ViT that methods were put on. `vit` is the model to call."""

    def __init__(self, vit: nn.Module) -> None:
        self.vit = vit
        self._plain_modules = {name for name, _ in vit.named_modules()}
        self._adapters: dict[str, Adapter] = {}
        self._active: str | None = None
        self._unmerged: Layout | None = None

    def add(
        self,
        name: str,
        method: str,
        config: Any,
        generator: torch.Generator,
        *,
        seed: int | None = None,
        classes: int | None = None,
        keep_base: bool = True,
    ) -> None:
        """Put one more adapter on the ViT and make it the active one. Raises as `attach`."""
        if name in self._adapters:
            raise ValueError(f"name: {name!r} given, allowed: a name that no adapter of it has")
        self._refuse_merged("attach")
        previous, vit = self._active, self.vit
        self._put(None)
        vit.requires_grad_(False)
        before, plain_tensors = layout_of(vit), set(vit.state_dict())
        base = {id(parameter) for parameter in vit.parameters()}
        try:
            if classes is not None and classes != getattr(vit, "num_classes", None):
                vit.reset_classifier(classes)  # type: ignore[operator]
            names = registry.method(method).attach(vit, config, generator)
            _check_names(vit, method, names)
        except BaseException as error:
            put(vit, difference(before)[0])
            self._put(previous)
            if isinstance(error, UnfitError):
                raise UnfitError(named(method, error)) from error
            raise
        head = [n for n, _ in vit.named_parameters() if is_head(n)]
        if keep_base:
            for path in (*names, *head):
                _own(vit, path, base)
        parameters = dict(vit.named_parameters())
        for path in (*names, *head):
            parameters[path].requires_grad_(True)
        buffers = [n for n in vit.state_dict() if n not in plain_tensors and n not in parameters]
        off, on = difference(before)
        self._adapters[name] = Adapter(
            method, config, seed, tuple(names), tuple(head), tuple(buffers), off, on, keep_base
        )
        self._active = name

    def remove(self, name: str) -> None:
        """Forget the adapter `name`; where it is active, the ViT is then as before any adapter."""
        if name not in self._adapters:
            raise ValueError(registry.unknown("adapter", name, self.names))
        self._refuse_merged("remove")
        if name == self._active:
            self._put(None)
        del self._adapters[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all adapters, in the order of their coming."""
        return tuple(self._adapters)

    @property
    def active(self) -> Adapter:
        """The adapter that acts at present; ValueError while all are disabled."""
        if self._active is None:
            raise ValueError(f"no adapter is active, allowed: use one of {', '.join(self.names)}")
        return self._adapters[self._active]

    @property
    def method(self) -> str:
        """The active adapter's method."""
        return self.active.method

    def use(self, name: str) -> None:
        """Make the adapter `name`, with its head, the one that acts.

        Raises ValueError for a name that no adapter has, or while one is merged.
        """
        if name not in self._adapters:
            raise ValueError(registry.unknown("adapter", name, self.names))
        self._refuse_merged("use")
        self._put(name)

    @contextmanager
    def disabled(self) -> Iterator[nn.Module]:
        """Within the context the ViT is what it was before any adapter, with the head it had."""
        self._refuse_merged("disabled")
        name = self._active
        self._put(None)
        try:
            yield self.vit
        finally:
            self._put(name)

    def layers(self) -> dict[str, tuple[str, ...]]:
        """The places of the ViT that the active adapter changed, with the tensors it trains there.

        A place is the name of a module of the plain ViT; "" is the ViT itself, where tensors stand
        that several places share.
        """
        parameters = self.active.parameters
        found: dict[str, list[str]] = {path: [] for path, _ in adapted_modules(self.vit)}
        for name in parameters:
            path = name
            while path and (path not in self._plain_modules or path == name):
                path = path.rpartition(".")[0]
            found.setdefault(path, []).append(name)
        return {path: tuple(names) for path, names in found.items()}

    @property
    def no_decay(self) -> set[str]:
        """The active adapter's tensors that weight decay must not touch."""
        return no_decay(self.vit) & set(self.active.parameters)

    @property
    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Every trained tensor of the active adapter but the head's, by its name in `vit`."""
        return self._parameters(self.active.parameters)

    @property
    def head_parameters(self) -> dict[str, nn.Parameter]:
        """The classification head's tensors; none if the ViT has no head."""
        return self._parameters(self.active.head)

    @property
    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that trains, the adapter's first."""
        return self._parameters(self.active.parameters + self.active.head)

    @property
    def adapter_buffers(self) -> dict[str, Tensor]:
        """The frozen tensors that the active method added and that a saved model needs."""
        state = self.vit.state_dict()
        return {name: state[name] for name in self.active.buffers}

    @property
    def step_hooks(self) -> dict[str, StepHook]:
        """The method's modules that take part in training, by their path in `vit`."""
        return {
            path: module
            for path, module in self.vit.named_modules()
            if isinstance(module, StepHook)
        }

    @property
    def merged(self) -> bool:
        """Whether the active method is in the weights at present."""
        return self._unmerged is not None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the active adapter and its head to `path`: see `adapters.saved`."""
        from adapters.saved import save

        save(self, path)

    def merge(self) -> None:
        """Put the method's effect into the weights: the module tree becomes the plain ViT's.

        Raises ValueError where the method cannot be merged, or is merged already.
        """
        if not registry.method(self.method).MERGEABLE:
            raise ValueError(f"merge: {self.method} given, allowed: methods with MERGEABLE = True")
        self._refuse_merged("merge")
        before = layout_of(self.vit)
        for path, module in list(adapted_modules(self.vit)):
            self.vit.set_submodule(path, module.merged())
        for path, _ in list(self.vit.named_modules()):
            parent, _, child = path.rpartition(".")
            if path not in self._plain_modules and parent in self._plain_modules:
                delattr(self.vit.get_submodule(parent), child)
        self._unmerged = difference(before)[0]

    def unmerge(self) -> None:
        """Undo `merge`: the base weights are the very tensors that they were before."""
        if self._unmerged is None:
            raise ValueError(f"unmerge: {self.method} is not merged, allowed: merge")
        put(self.vit, self._unmerged)
        self._unmerged = None

    def _put(self, name: str | None) -> None:
        """Take off the active adapter and put on `name`; None leaves the plain ViT."""
        if name == self._active:
            return
        if self._active is not None:
            if not self.active.reversible:
                raise ValueError(
                    f"{self.method}: the ViT's own tensors were not kept, allowed: `attach`"
                )
            put(self.vit, self.active.off)
        if name is not None:
            put(self.vit, self._adapters[name].on)
            # The ViT may have moved while these were off.
            self.vit.to(next(self.vit.parameters()).device)
        self._active = name

    def _refuse_merged(self, verb: str) -> None:
        if self._unmerged is not None:
            raise ValueError(f"{verb}: {self.method} is merged already, allowed: unmerge first")

    def _parameters(self, names: Sequence[str]) -> dict[str, nn.Parameter]:
        parameters = dict(self.vit.named_parameters())
        if self.merged and not all(name in parameters for name in names):
            raise ValueError(
                f"{self.method}: its parameters were asked for while merged, allowed: unmerge first"
            )
        return {name: parameters[name] for name in names}


def no_decay(vit: nn.Module) -> set[str]:
    """Full names of the parameters that modules of `vit` exempt from weight decay."""
    return {
        f"{path}.{name}"
        for path, module in vit.named_modules()
        for name in getattr(module, "no_decay", ())
    }


def _check_names(vit: nn.Module, method: str, names: Sequence[str]) -> None:
    parameters = dict(vit.named_parameters())
    wrong = [name for name in names if name not in parameters or is_head(name)]
    if wrong or len(set(names)) < len(names):
        raise RuntimeError(
            f"{method}: attach returned {wrong or 'a name twice'}, allowed: names of the ViT's "
            "parameters, each once, the head's excepted"
        )


def _own(vit: nn.Module, path: str, base: set[int]) -> None:
    """Let the tensor at `path` be the adapter's own copy, if it is one of the plain ViT's."""
    parent, _, name = path.rpartition(".")
    module = vit.get_submodule(parent)
    parameter = module.get_parameter(name)
    if id(parameter) in base:
        module.register_parameter(name, nn.Parameter(parameter.detach().clone()))
