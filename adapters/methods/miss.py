"""MiSS: one trained shard D per Linear, shared along its inputs.

    balance   delta W[o, i] = D[i mod r, o]            D (r, out)
    mini      delta W[o, i] = D[i mod r, o mod m]      D (r, m)
    bat       delta W[g, p] = (W[g, p] + I) D_g        D_g (r, r), one for each r output rows

where W[g, p] are the r x r tiles of W. Kang and Yin 2024, arXiv:2409.15371 (Matrix Shard Sharing). D
starts at zero, so the adapted model starts as the base. In balance and mini the groups of r inputs
are added up before they are multiplied, so nothing of the weight's size is built; r need not divide
the inputs. In bat the change depends on the frozen weight, which is built once per forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from adapters.folded import folded, is_folded
from adapters.inject import adapted_linears
from adapters.method import Dims, HfPeft, Identity, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import check_dropout, check_rank
from adapters.qkv import (
    All,
    add_delta,
    canonical_targets,
    part_shape,
    replace_targets,
    row_blocks,
    spread,
    target_shapes,
    targeted,
)
from adapters.spec import one_of

FAMILY = "shard"
PAPER = "arXiv:2409.15371"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of MiSS."""

    rank: int = 64
    """Length r of the shard along the inputs."""
    mode: Literal["balance", "mini", "bat"] = "balance"
    """How D changes the weight: each output its own, groups of outputs alike, or by way of W's tiles."""
    mini_rank: int = 1
    """Width m of the shard along the outputs, in mode mini; 1 gives all outputs the same change."""
    dropout: float = 0.0
    """On the adapter's input; mode bat has none."""
    targets: tuple[str, ...] | All = ("qkv",)
    """Linears of a block, each adapted whole; or q, k, v, the row blocks of the fused qkv, apart."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rank(self.rank)
        one_of("mode", self.mode, ("balance", "mini", "bat"))
        if type(self.mini_rank) is not int or self.mini_rank < 1:
            raise ValueError(
                f"mini_rank: {self.mini_rank!r} given, allowed: an integer of at least 1"
            )
        if self.mode != "mini" and self.mini_rank != 1:
            raise ValueError(
                f"mini_rank: {self.mini_rank} given with mode {self.mode}, allowed: mode mini"
            )
        check_dropout(self.dropout)
        if self.mode == "bat" and self.dropout:
            raise ValueError(f"dropout: {self.dropout} given with mode bat, allowed: 0")
        object.__setattr__(self, "targets", canonical_targets(self.targets))


def check_shape(config: Config, in_features: int, out_features: int) -> None:
    """Raise ValueError where the shard does not fit `out_features` rows of `in_features`."""
    r, m = config.rank, config.mini_rank
    if r > in_features:
        raise ValueError(f"rank: {r} given, allowed: at most the inputs ({in_features})")
    if config.mode == "mini" and out_features % m:
        raise ValueError(f"mini_rank: {m} given, allowed: a divisor of {out_features} outputs")
    if config.mode == "bat" and (in_features % r or out_features % r):
        raise ValueError(
            f"rank: {r} given with mode bat, allowed: a divisor of {in_features} inputs and "
            f"{out_features} outputs"
        )


def shard_shape(config: Config, out_features: int) -> tuple[int, ...]:
    """The shape of D for `out_features` rows."""
    r = config.rank
    match config.mode:
        case "balance":
            return (r, out_features)
        case "mini":
            return (r, config.mini_rank)
        case "bat":
            return (out_features // r, r, r)


class MissLinear(LinearAdapter):
    """D (P, ...) of one Linear, one shard per row block."""

    def __init__(self, base: nn.Linear, *, parts: tuple[str, ...], config: Config) -> None:
        super().__init__()
        p, o = part_shape(base.out_features, parts)
        check_shape(config, base.in_features, o)
        self.parts, self.outputs = parts, o
        self.rank, self.mode, self.dropout = config.rank, config.mode, config.dropout
        self.reads_weight = config.mode == "bat"
        self.D = nn.Parameter(torch.zeros(p, *shard_shape(config, o)))

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute the adapted output; the change is multiplied with groups of inputs added up."""
        if self.mode == "bat":
            return nn.functional.linear(x_BNI, base.weight + self._change(base), base.bias)
        drops = self.dropout and self.training
        if self.mode == "balance" and not drops and is_folded(x_BNI, base):
            # Each input is told to the group it belongs to: D is what goes up from there.
            copies = -(-base.in_features // self.rank)
            groups_rI = torch.eye(self.rank, device=x_BNI.device).repeat(1, copies)
            down_1rI = groups_rI[None, :, : base.in_features]
            return folded(x_BNI, base, base.bias, down_1rI, self.D.mT, self.parts)
        z_BNI = nn.functional.dropout(x_BNI, self.dropout, self.training)
        z_BNI = nn.functional.pad(z_BNI, (0, -base.in_features % self.rank))
        s_BNr = z_BNI.reshape(*z_BNI.shape[:-1], -1, self.rank).sum(-2)
        # Multiplied for the columns that D has; in mode mini they repeat along the outputs.
        delta_BNPm = torch.einsum("...r,prm->...pm", s_BNr, self.D)
        delta_BNPo = delta_BNPm.repeat(*(1,) * (x_BNI.ndim - 1), 1, self.outputs // self.D.shape[2])
        return add_delta(base(x_BNI), delta_BNPo, self.parts)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + delta W and b."""
        return base.weight + self._change(base), base.bias

    def wide(self) -> Tensor:
        """D over all outputs (P, r, o): in mode mini it repeats along them."""
        return self.D.repeat(1, 1, self.outputs // self.D.shape[2])

    def _change(self, base: nn.Linear) -> Tensor:
        """Return delta W (O, I)."""
        inputs = base.in_features
        if self.mode != "bat":
            change_Por = self.wide().transpose(1, 2)
            copies = -(-inputs // self.rank)
            return spread(change_Por.repeat(1, 1, copies)[..., :inputs], self.parts)
        groups = self.outputs // self.rank
        tiles_PGapb = row_blocks(base.weight, self.parts).reshape(
            -1, groups, self.rank, inputs // self.rank, self.rank
        )
        change = torch.einsum("PGapb,PGbc->PGapc", tiles_PGapb, self.D) + self.D.unsqueeze(3)
        return spread(change.flatten(3).flatten(1, 2), self.parts)


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Put a shard beside each target of the chosen blocks."""
    chosen = config.blocks_of(vit)
    for _, o, i in targeted(vit, config.targets, chosen[0]):
        check_shape(config, i, o)
    return replace_targets(vit, config.targets, partial(MissLinear, config=config), chosen)


def count(config: Config, dims: Dims) -> int:
    """Sum r out (balance, bat) or r m (mini) over every Linear or row block of the chosen blocks."""
    total = 0
    for p, o, i in target_shapes(config.targets, dims):
        check_shape(config, i, o)
        total += p * config.rank * (config.mini_rank if config.mode == "mini" else o)
    return len(config.adapted_blocks(dims.depth)) * total


def hf_peft(vit: nn.Module, config: Config) -> HfPeft:
    """HF's miss_block; a row block that is not adapted is a block of zeros in it.

    Shards of mode mini for row blocks apart, which HF has not, are written out as mode balance.
    """
    linears = list(adapted_linears(vit, MissLinear))
    mini = config.mode == "mini" and not any(adapter.parts for _, _, adapter in linears)
    form = {"bat": "bat", "mini": "mini" if mini else True, "balance": True}[config.mode]
    tensors: dict[str, Tensor] = {}
    for path, _, adapter in linears:
        if form == "mini":
            block = adapter.D[0]
        elif form == "bat":
            block = spread(adapter.D, adapter.parts)
        else:
            block = spread(adapter.wide().mT, adapter.parts).mT
        tensors[f"model.{path}.miss_block"] = block
    settings = {
        "peft_type": "MISS",
        "r": config.rank,
        "miss_dropout": config.dropout,
        "mini_r": config.mini_rank if form == "mini" else 1,
        "init_weights": form,
    }
    return settings, tensors
