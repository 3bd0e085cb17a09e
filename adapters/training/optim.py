"""The optimiser of a run: which tensor trains at which rate, and which decay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from adapters.adapted import Adapted
from adapters.spec import TrainConfig

_STEM = ("patch_embed", "cls_token", "reg_token", "dist_token", "pos_embed", "norm_pre")
"""What of a ViT stands in front of its blocks."""
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def optimizer_of(adapted: Adapted, train: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser, with a parameter group for each rate and decay, the head's last.

    A group's `layer_scale` is what `layer_decay` makes of its rate.
    """
    groups = _groups(adapted, train)
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, betas=train.betas)
        case "adam":
            return torch.optim.Adam(groups, betas=train.betas)
        case "sgd":
            return torch.optim.SGD(groups, momentum=train.momentum)
    raise ValueError(f"optimizer: {train.optimizer!r} given, allowed: adamw, adam, sgd")


def layer_scales(
    vit: nn.Module, names: Mapping[str, nn.Parameter], decay: float
) -> dict[str, float]:
    """By name, what `layer_decay` multiplies the rates of these parameters of `vit` by.

    With L blocks: the stem, the tokens and the positions decay^(L + 1), block k (from 0)
    decay^(L - k), everything else 1. That is the final norm, the head, and tensors that several
    blocks share, since the last block moves these too.
    """
    users: dict[int, set[str]] = {}
    for path, parameter in vit.named_parameters(remove_duplicate=False):
        if block := _BLOCK.match(path):
            users.setdefault(id(parameter), set()).add(block[1])
    blocks = len(vit.blocks)  # type: ignore[arg-type]
    scales = {}
    for name, parameter in names.items():
        block = _BLOCK.match(name)
        power = 0
        if name.split(".")[0] in _STEM:
            power = blocks + 1
        elif block and len(users[id(parameter)]) == 1:
            power = blocks - int(block[1])
        scales[name] = decay**power
    return scales


def _groups(adapted: Adapted, train: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by (head or not, rate, decay): the decayed ones of an adapter before the others."""
    scales = layer_scales(adapted.vit, adapted.trainable_parameters, train.layer_decay)
    head_lr = train.lr if train.head_lr is None else train.head_lr
    exempt = adapted.no_decay
    found: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in adapted.trainable_parameters.items():
        is_flat = parameter.ndim <= 1 or name.endswith("bias")
        spared = name in exempt or (train.decay == "no_bias_norm" and is_flat)
        key = name in adapted.head_parameters, scales[name], spared
        found.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": (head_lr if is_head else train.lr) * scale,
            "weight_decay": 0.0 if spared else train.weight_decay,
            "layer_scale": scale,
        }
        for (is_head, scale, spared), parameters in sorted(found.items(), key=lambda item: item[0])
    ]
