"""An adapter in one safetensors file: its trained tensors and head, and in the header what made it.

The header's entry `peftgrid` is JSON: format, method, settings, seed, and a digest of the frozen
weights that the adapter was trained on. Nothing in the file is executed when it is read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from adapters import registry, text_head
from adapters.adapted import Adapted
from adapters.api import attach_config
from adapters.checkpoint import digest
from adapters.spec import from_plain, to_plain

FORMAT = 1
_KEY = "peftgrid"


@dataclass(frozen=True)
class Header:
    """What a saved adapter says of itself."""

    method: str
    params: dict[str, Any]
    seed: int
    classes: int
    base_digest: str


def to_bytes(adapted: Adapted) -> bytes:
    """The active adapter with its head as a safetensors file."""
    tensors = {**adapted.trainable_parameters, **adapted.adapter_buffers}
    active, head = adapted.active, adapted.head_parameters.get("head.weight")
    header = {
        "format": FORMAT,
        "method": active.method,
        "params": to_plain(active.config),
        "seed": active.seed or 0,
        "classes": 0 if head is None else len(head),
        "base_digest": _base_digest(adapted),
    }
    data: bytes = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={_KEY: json.dumps(header, sort_keys=True)},
    )
    return data


def merged_bytes(adapted: Adapted, note: str) -> bytes:
    """The ViT with the active adapter in its weights, as a safetensors checkpoint that timm loads.

    ValueError where the method cannot be merged. The adapter is unmerged afterwards.
    """
    adapted.merge()
    try:
        tensors = {n: t.detach().cpu().contiguous() for n, t in adapted.vit.state_dict().items()}
    finally:
        adapted.unmerge()
    data: bytes = safetensors.torch.save(tensors, {"format": "pt", _KEY: note})
    return data


def save(adapted: Adapted, path: str | os.PathLike[str]) -> None:
    """Write the active adapter with its head to `path`."""
    Path(path).write_bytes(to_bytes(adapted))


def read_header(path: str | os.PathLike[str]) -> Header:
    """What the file `path` holds; ValueError where it is no saved adapter."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        found = json.loads(metadata[_KEY])
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        return Header(**found)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: no adapter of format {FORMAT} ({error}) given, allowed: what `save` wrote"
        ) from error


def load(vit: nn.Module, path: str | os.PathLike[str], *, name: str = "default") -> Adapted:
    """Put the adapter saved in `path` on a timm ViT with the same weights, and make it active.

    Its head comes with it, whatever number of classes the ViT had. Raises ValueError for a file
    that holds no adapter, for other frozen weights, and as `attach` does.
    """
    header = read_header(path)
    tensors = safetensors.torch.load_file(path)
    config = from_plain(registry.method(header.method).Config, header.params)
    projection = tensors.get(text_head.PROJECTION)
    if projection is not None:
        text_head.place(vit, len(projection), header.classes)
    adapted = attach_config(
        vit, header.method, config, name=name, seed=header.seed, classes=header.classes
    )
    try:
        _fill(adapted, tensors, path)
        if _base_digest(adapted) != header.base_digest:
            raise ValueError(
                f"{path}: a ViT with other frozen weights given, allowed: the one it was trained on"
            )
    except ValueError:
        adapted.remove(name)
        raise
    return adapted


def _fill(adapted: Adapted, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    own = {*adapted.trainable_parameters, *adapted.adapter_buffers}
    if own != tensors.keys():
        differing = sorted(own ^ tensors.keys())
        raise ValueError(f"{path}: {differing[0]} given, allowed on this ViT: {len(own)} others")
    try:
        # By the modules themselves: some take over a shape that depends on the machine.
        adapted.vit.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def _base_digest(adapted: Adapted) -> str:
    """Of all that the ViT has and the adapter neither trains nor added."""
    own = {*adapted.trainable_parameters, *adapted.adapter_buffers}
    state = adapted.vit.state_dict()
    return digest({name: tensor for name, tensor in state.items() if name not in own})
