"""A ViT with a method on it: what trains, what is saved, and merging into plain weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from adapters import registry
from adapters.inject import adapted_modules, is_head
from adapters.spec import from_plain


def attach(vit: nn.Module, method: str, *, seed: int = 0, **settings: Any) -> Adapted:
    """Put `method` with `settings` on a timm ViT, in place, drawing from `seed`.

        adapted = attach(vit, "lora", rank=4, targets=["q", "v"])

    Raises ValueError for a method, setting or value that does not exist or a ViT it cannot take.
    """
    config_type = registry.method(method).Config
    allowed = [field.name for field in dataclasses.fields(config_type)]
    for name in settings:
        if name not in allowed:
            raise ValueError(registry.unknown(f"setting of {method}", name, allowed))
    config = from_plain(config_type, settings)
    return adapt(vit, method, config, torch.Generator().manual_seed(seed))


def adapt(vit: nn.Module, method: str, config: Any, generator: torch.Generator) -> Adapted:
    """Freeze `vit`, let the method change it in place, and let train what it names and the head."""
    plain_modules = {name for name, _ in vit.named_modules()}
    plain_tensors = set(vit.state_dict())
    vit.requires_grad_(False)
    names = registry.method(method).attach(vit, config, generator)
    parameters = dict(vit.named_parameters())
    wrong = [name for name in names if name not in parameters or is_head(name)]
    if wrong or len(set(names)) < len(names):
        raise RuntimeError(
            f"{method}: attach returned {wrong or 'a name twice'}, allowed: names of the ViT's "
            "parameters, each once, the head's excepted"
        )
    head = [name for name in parameters if is_head(name)]
    for name in (*names, *head):
        parameters[name].requires_grad_(True)
    buffers = [n for n in vit.state_dict() if n not in plain_tensors and n not in parameters]
    return Adapted(vit, method, names, head, buffers, plain_modules)


class Adapted:
    """A ViT that a method was put on. `vit` is the model to call."""

    def __init__(
        self,
        vit: nn.Module,
        method: str,
        adapter_names: list[str],
        head_names: list[str],
        buffer_names: list[str],
        plain_modules: set[str],
    ) -> None:
        self.vit = vit
        self.method = method
        self.no_decay = no_decay(vit) & set(adapter_names)
        self._adapter_names, self._head_names = adapter_names, head_names
        self._buffer_names = buffer_names
        self._plain_modules = plain_modules
        self._set_aside: dict[str, nn.Module] | None = None

    @property
    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Every trained tensor but the head's, by its name in `vit`."""
        return self._parameters(self._adapter_names)

    @property
    def head_parameters(self) -> dict[str, nn.Parameter]:
        """The classification head's tensors; none if the ViT has no head."""
        return self._parameters(self._head_names)

    @property
    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that trains, the adapter's first."""
        return self._parameters(self._adapter_names + self._head_names)

    @property
    def adapter_buffers(self) -> dict[str, Tensor]:
        """The frozen tensors that the method added and that a saved model needs."""
        state = self.vit.state_dict()
        return {name: state[name] for name in self._buffer_names}

    @property
    def merged(self) -> bool:
        """Whether the method is in the weights at present."""
        return self._set_aside is not None

    def merge(self) -> None:
        """Put the method's effect into the weights: the module tree becomes the plain ViT's.

        Raises ValueError where the method cannot be merged, or is merged already.
        """
        if not registry.method(self.method).MERGEABLE:
            raise ValueError(f"merge: {self.method} given, allowed: methods with MERGEABLE = True")
        if self._set_aside is not None:
            raise ValueError(f"merge: {self.method} is merged already, allowed: unmerge")
        set_aside: dict[str, nn.Module] = {}
        for path, module in list(adapted_modules(self.vit)):
            set_aside[path] = module
            self.vit.set_submodule(path, module.merged())
        for path, module in list(self.vit.named_modules()):
            parent, _, child = path.rpartition(".")
            if path not in self._plain_modules and parent in self._plain_modules:
                set_aside[path] = module
                delattr(self.vit.get_submodule(parent), child)
        self._set_aside = set_aside

    def unmerge(self) -> None:
        """Undo `merge`: the base weights are the very tensors that they were before."""
        if self._set_aside is None:
            raise ValueError(f"unmerge: {self.method} is not merged, allowed: merge")
        for path, module in self._set_aside.items():
            parent, _, child = path.rpartition(".")
            setattr(self.vit.get_submodule(parent), child, module)
        self._set_aside = None

    def _parameters(self, names: list[str]) -> dict[str, nn.Parameter]:
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
