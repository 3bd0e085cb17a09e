"""What a run's next step depends on, as tensors by name: taken from a run, and put into one.

The rate of learning, the batch order and the like follow from the position alone and are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from adapters.adapted import Adapted
from adapters.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where a run stands between two steps, or between the training and the scoring of an epoch."""

    epoch: int
    """Whole epochs that were trained; their scores that `state` lacks are still to be made."""
    step: int
    """Steps that were trained of the epoch after those."""
    tensors: Mapping[str, Tensor]
    """By `kind/name`. They are the run's own and change with its next step: keep copies."""
    state: Mapping[str, Any]
    """Everything else, as JSON values."""


class Keeper(Protocol):
    """Keeps the snapshots of one run, for the next attempt at it."""

    @property
    def every_epochs(self) -> int:
        """Epochs from one snapshot to the next."""

    def load(self) -> Snapshot | None:
        """The newest snapshot; None where the run starts from the beginning."""

    def save(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` beyond this process. Raises OSError where it cannot be written."""


def take(adapted: Adapted, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of a run between two steps, not copied.

    `trained/` or, where a parameter ceased to train on the way, `frozen/`; `buffer/`; `hook/`;
    `optimizer/KEY/` by the parameter's name; `rng/`.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in adapted.trainable_parameters.items():
        kind = "trained" if parameter.requires_grad else "frozen"
        tensors[f"{kind}/{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    tensors |= {f"buffer/{name}": tensor for name, tensor in adapted.adapter_buffers.items()}
    for path, hook in adapted.step_hooks.items():
        tensors |= {f"hook/{path}/{key}": value for key, value in hook.hook_state().items()}
    tensors["rng/cpu"] = torch.get_rng_state()
    device = _device(adapted)
    if device.type == "cuda":
        tensors["rng/cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def put(tensors: Mapping[str, Tensor], adapted: Adapted, optimizer: torch.optim.Optimizer) -> None:
    """Give `adapted`, as it was built for the same run, and `optimizer` the tensors that `take` took.

    Raises CheckpointError, and changes nothing, where they are not those of this model.
    """
    parameters, buffers = adapted.trainable_parameters, adapted.adapter_buffers
    kept = under(tensors, "trained") | under(tensors, "frozen")
    _same_shapes("trained tensor", parameters, kept)
    _same_shapes("buffer", buffers, under(tensors, "buffer"))
    with torch.no_grad():
        for name, tensor in (parameters | buffers).items():
            tensor.copy_(kept[name] if name in parameters else tensors[f"buffer/{name}"])
    for name, parameter in parameters.items():
        parameter.requires_grad_(f"trained/{name}" in tensors)
    for path, hook in adapted.step_hooks.items():
        hook.load_hook_state(under(tensors, f"hook/{path}"))
    _put_optimizer(under(tensors, "optimizer"), parameters, optimizer)
    torch.set_rng_state(tensors["rng/cpu"])
    if "rng/cuda" in tensors and (device := _device(adapted)).type == "cuda":
        torch.cuda.set_rng_state(tensors["rng/cuda"], device)


def under(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors named `kind/...`, by the rest of their names."""
    prefix = f"{kind}/"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _put_optimizer(
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Through `load_state_dict`, which knows the device of each value; it may keep what it is given."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for key_and_name, value in tensors.items():
        key, _, name = key_and_name.partition("/")
        by_name.setdefault(name, {})[key] = value.clone()
    plain = optimizer.state_dict()
    positions = [i for group in plain["param_groups"] for i in group["params"]]
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    position = {id(p): i for i, p in zip(positions, ordered, strict=True)}
    plain["state"] = {position[id(parameters[name])]: state for name, state in by_name.items()}
    optimizer.load_state_dict(plain)


def _device(adapted: Adapted) -> torch.device:
    return next(adapted.vit.parameters()).device


def _same_shapes(what: str, ours: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    for name in sorted(ours.keys() | kept.keys()):
        shapes = [tuple(m[name].shape) if name in m else "none" for m in (kept, ours)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{what} {name}: shape {shapes[0]} in the checkpoint, {shapes[1]} in this run"
            )
