"""The contract of a method: what a file in `adapters/methods/` offers, and how it sits on a ViT.

A method is one module. Its file name is its name in suites. It offers

* ``Config``: a frozen, keyword-only dataclass of its settings; ``__post_init__`` raises ValueError
  that names the setting, what was given and what is allowed;
* ``attach(vit, config, generator) -> list[str]``: changes the ViT in place, returns the names (in
  ``vit.named_parameters()`` afterwards) of the parameters to train, the head's excepted; every
  random number comes from the CPU `generator`;
* ``count(config, dims) -> int``: how many elements those parameters have, in closed form;
* ``FAMILY``, ``PAPER``, ``IDENTITY_AT_START``, ``MERGEABLE``, ``SEMANTICS``.

It may also offer

* ``count_is_exact(config) -> bool``: False where the count depends on the weights, so that ``count``
  is an upper bound;
* ``check_run(config, steps) -> None``: raises ValueError where the settings do not fit a run of so
  many optimiser steps; asked before anything starts;
* modules in the ViT that are a `StepHook`, which the training loop then calls;
* ``hf_peft(vit, config) -> HfPeft``, the adapted ViT in the form of Hugging Face PEFT, or
  ``NO_HF_PEFT``, a text: why that library cannot hold a method which it has, too.

The head belongs to the harness. The harness knows no method by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from adapters.anatomy import Anatomy

Identity = Literal["exact", "close", "no"]
HfPeft = tuple[dict[str, Any], dict[str, Tensor]]
"""Settings of an `adapter_config.json`, ``peft_type`` among them and those that `adapters.hf_peft`
writes for every method excepted; tensors by their names in HF's tuner (``model.`` and the path)."""


@dataclass(frozen=True, kw_only=True)
class Dims:
    """The sizes of a ViT that closed-form counts and suite checks need, without building it."""

    width: int
    """d, the embedding width."""
    depth: int
    """L, the number of blocks."""
    heads: int
    mlp_width: int
    """The inputs of fc2."""
    params: int
    """All parameters without the classification head."""
    bias_params: int
    """Elements of all biases, the head's excepted."""
    norm_params: int
    """Elements of all LayerNorms, weights and biases; CLIP's ViTs have one more norm."""
    block_norm_params: int
    """The same of one block."""
    linear_biases: tuple[str, ...]
    """Those of a block's Linears, named as in `Anatomy.linears`, that have a bias."""
    image_size: int
    patch_size: int
    prefix_tokens: int
    """Class token and register tokens."""
    anatomy: Anatomy = field(default=Anatomy(), metadata={"neutral": Anatomy()})


@runtime_checkable
class Method(Protocol):
    """What the registry checks of a module in `adapters/methods/`."""

    FAMILY: str
    PAPER: str
    IDENTITY_AT_START: Identity
    MERGEABLE: bool
    SEMANTICS: int
    Config: type[Any]

    def attach(self, vit: nn.Module, config: Any, generator: torch.Generator) -> list[str]:
        """Change `vit` in place; return the names of the parameters to train, not the head's."""

    def count(self, config: Any, dims: Dims) -> int:
        """How many elements those parameters have, in closed form."""


@runtime_checkable
class StepHook(Protocol):
    """A module of a method that takes part in training, found by having these names.

    Parameters that it freezes get ``requires_grad = False`` and no gradient, and keep their values.
    """

    @property
    def active_subspaces(self) -> int | None:
        """How many of the subspaces that it may freeze still train; None where it has none."""

    def before_run(self, steps: int) -> None:
        """Hear how many optimiser steps the run takes; ValueError where that does not fit."""

    def after_step(self, step: int) -> None:
        """Called after each optimiser update `step` (from 0), before the gradients are cleared."""

    def hook_state(self) -> dict[str, Tensor]:
        """What a checkpoint of an unfinished run needs; no part of a saved model."""

    def load_hook_state(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`, after `before_run` and once the trained tensors are loaded."""


class LinearAdapter(nn.Module):
    """What a method does to one Linear (in -> out). Subclasses own the trained tensors.

    Shape suffixes: B batch, N tokens, I input features, O output features, R rank, P the row blocks
    of a fused Linear that are adapted apart from each other, o the rows of one of them.
    """

    no_decay: ClassVar[tuple[str, ...]] = ()
    """Own parameters that weight decay must not touch. Any module of a method may have it."""
    reads_weight = False
    """Whether `forward` needs the frozen weight itself and not only what the Linear computes."""

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Return the adapted output (B, N, O)."""
        raise NotImplementedError

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return weight (O, I) and bias (O) of a plain Linear with the same output."""
        raise NotImplementedError


class AdaptedModule(nn.Module):
    """Stands where the ViT had the frozen `base`, which it keeps untouched; merging replaces it."""

    base: nn.Module

    def merged(self) -> nn.Module:
        """Return a new module of the base's type that computes the same."""
        raise NotImplementedError


class AdaptedLinear(AdaptedModule):
    """Stands where the ViT had a Linear: the `base`, and the `adapter` that changes it.

    The base is the frozen Linear, or where methods are combined what another one made of it. To an
    adapter both look the same: weight, bias and sizes are those of the frozen Linear.
    """

    base: nn.Linear | AdaptedLinear

    def __init__(self, base: nn.Linear | AdaptedLinear, adapter: LinearAdapter) -> None:
        super().__init__()
        self.base = base
        self.adapter = adapter

    @property
    def weight(self) -> Tensor:
        """The frozen weight (O, I)."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias (O)."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """The number I of inputs."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """The number O of outputs."""
        return self.base.out_features

    def forward(self, x_BNI: Tensor) -> Tensor:
        """(B, N, I) -> (B, N, O)."""
        out: Tensor = self.adapter(x_BNI, cast(nn.Linear, self.base))
        return out

    def merged(self) -> nn.Linear:
        """Return the plain Linear with the effect of its adapters in its weights."""
        base = self.base.merged() if isinstance(self.base, AdaptedLinear) else self.base
        with torch.no_grad():
            weight_OI, bias_O = self.adapter.merged(base)
        rows, columns = weight_OI.shape
        # On the meta device, since an ordinary Linear would draw from the global generator.
        linear = nn.Linear(columns, rows, bias=bias_O is not None, device="meta")
        linear.weight = nn.Parameter(weight_OI.detach().clone(), requires_grad=False)
        if bias_O is not None:
            linear.bias = nn.Parameter(bias_O.detach().clone(), requires_grad=False)
        return linear.train(self.training)
