"""What the step benchmark compares: a ViT with a method of ours, the same by HF PEFT, and the floor.

The floor is the ViT with its head alone trained that yet takes the gradient back to the input of the
first block that the method adapts: what any method at that place pays for being there.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import adapters
from adapters import registry
from adapters.anatomy import LINEARS
from adapters.inject import blocks

BATCH, CLASSES = 8, 10


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method with settings, and what is the same to HF PEFT where it has it."""

    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    hf: str | None = None
    """The name of a configuration class in `peft`."""
    hf_settings: dict[str, Any] = field(default_factory=dict)
    hf_targets: tuple[str, ...] = ("qkv",)

    @property
    def label(self) -> str:
        """`lora`, or `miss[mode=bat]`."""
        given = ",".join(
            f"{name}={'+'.join(value) if isinstance(value, tuple) else value}"
            for name, value in self.settings.items()
        )
        return f"{self.method}[{given}]" if given else self.method


# PEFT adapts whole Linears, so ia3 and adamss, which by default adapt row blocks, come again as it does.
_WITH_HF = (
    Case(method="lora", hf="LoraConfig", hf_settings={"r": 8, "lora_alpha": 8}),
    Case(method="dora", hf="LoraConfig", hf_settings={"r": 8, "lora_alpha": 8, "use_dora": True}),
    Case(method="vera", hf="VeraConfig", hf_settings={"r": 256}),
    Case(
        method="ia3",
        settings={"targets": ("qkv", "fc2")},
        hf="IA3Config",
        hf_settings={"feedforward_modules": [LINEARS["fc2"]]},
        hf_targets=("qkv", "fc2"),
    ),
    Case(method="miss", hf="MissConfig", hf_settings={"r": 64}),
    Case(
        method="miss",
        settings={"mode": "bat"},
        hf="MissConfig",
        hf_settings={"r": 64, "init_weights": "bat"},
    ),
    Case(
        method="miss",
        settings={"mode": "mini"},
        hf="MissConfig",
        hf_settings={"r": 64, "init_weights": "mini", "mini_r": 1},
    ),
    Case(
        method="adamss",
        settings={"targets": ("qkv",)},
        hf="AdamssConfig",
        hf_settings={"r": 100, "num_subspaces": 5, "subspace_rank": 1},
    ),
)


def cases() -> list[Case]:
    """Every method at its defaults and without dropout, and what else HF PEFT has."""
    known = registry.names("methods")
    usual = [Case(method=name) for name in known]
    dropping = [name for name in known if getattr(registry.method(name).Config(), "dropout", 0)]
    without = [Case(method=name, settings={"dropout": 0.0}) for name in dropping]
    theirs = [case for case in _WITH_HF if case.method in known]
    return list({case.label: case for case in (*usual, *without, *theirs)}.values())


class Trainee:
    """A model that trains."""

    def __init__(self, vit: nn.Module) -> None:
        self.vit = vit.train()
        pixels = vit.get_submodule("patch_embed").img_size
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(BATCH, 3, *pixels, generator=generator)
        self.labels = torch.arange(BATCH) % CLASSES
        trained = [parameter for parameter in vit.parameters() if parameter.requires_grad]
        self.trained = sum(parameter.numel() for parameter in trained)
        self._optimizer = torch.optim.AdamW(trained)

    def loss(self) -> Tensor:
        """One forward pass."""
        return nn.functional.cross_entropy(self.vit(self.images), self.labels)

    def step(self) -> None:
        """One training step: forward, backward, update."""
        self._optimizer.zero_grad()
        self.loss().backward()
        self._optimizer.step()

    def flops_and_saved_bytes(self) -> tuple[int, int]:
        """What one step costs, exactly."""
        return self._flops(), self._saved_bytes()

    def _flops(self) -> int:
        """Multiplications and additions in matrix products, forward and backward."""
        with FlopCounterMode(display=False) as counter:
            self.loss().backward()
        self.vit.zero_grad()
        flops = int(counter.get_total_flops())
        del counter
        gc.collect()  # its graphs are cycles of few objects that hold gigabytes
        return flops

    def _saved_bytes(self) -> int:
        """Bytes that autograd holds between forward and backward, each storage once.

        The model's own tensors are left out: activations and whatever a method builds. Not counted
        under FlopCounterMode, which keeps alive what a graph without a way to the loss had saved.
        """
        saved: list[weakref.ref[_Saved]] = []

        def save(tensor: Tensor) -> _Saved:
            held = _Saved(tensor)
            saved.append(weakref.ref(held))
            return held

        with torch.autograd.graph.saved_tensors_hooks(save, lambda held: held.tensor):
            loss = self.loss()
        assert loss.requires_grad  # and while it lives, all that its backward pass needs
        alive = [held.tensor.untyped_storage() for ref in saved if (held := ref()) is not None]
        own = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*self.vit.parameters(), *self.vit.buffers())
        }
        kept = {storage.data_ptr(): storage.nbytes() for storage in alive}
        return sum(size for address, size in kept.items() if address not in own)


class _Saved:
    """A tensor that autograd holds, for as long as it does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def ours(model: str, case: Case) -> Trainee:
    """A ViT with the method on it."""
    vit = _vit(model)
    adapters.attach(vit, case.method, **case.settings)
    return Trainee(vit)


def theirs(model: str, case: Case) -> Trainee:
    """The same by HF PEFT."""
    import peft

    assert case.hf is not None
    targets = [LINEARS[target] for target in case.hf_targets]
    config = getattr(peft, case.hf)(target_modules=targets, **case.hf_settings)
    vit: nn.Module = peft.get_peft_model(_vit(model), config).get_base_model()
    vit.get_submodule("head").requires_grad_(True)
    return Trainee(vit)


def floor(model: str, first: int | None) -> Trainee:
    """A ViT that trains its head and has the gradient at the input of block `first`."""
    vit = _vit(model).requires_grad_(False)
    vit.get_submodule("head").requires_grad_(True)
    if first is not None:
        blocks(vit)[first].register_forward_pre_hook(
            lambda _, given: (given[0].detach().requires_grad_(True),)
        )
    return Trainee(vit)


def first_adapted(trainee: Trainee) -> int | None:
    """The first block with an output that needs a gradient; None if the head alone trains."""
    needs: list[bool] = []

    def look(_module: nn.Module, _given: Any, given_back: Any) -> None:
        needs.append(any(tensor.requires_grad for tensor in _tensors(given_back)))

    hooks = [block.register_forward_hook(look) for block in blocks(trainee.vit)]
    trainee.vit(trainee.images[:1])
    for hook in hooks:
        hook.remove()
    return needs.index(True) if True in needs else None


def _vit(model: str) -> nn.Module:
    torch.manual_seed(0)
    create: Callable[..., nn.Module] = timm.create_model
    return create(model, pretrained=False, num_classes=CLASSES)


def _tensors(given: Any) -> Iterator[Tensor]:
    yield from given if isinstance(given, tuple) else (given,)
