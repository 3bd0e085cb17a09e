"""LoRA: a low-rank update beside each frozen Linear.

    y = W x + b + s B A dropout(x),   s = alpha / r (rank-stabilised: alpha / sqrt(r))

Hu et al. 2021, arXiv:2106.09685; the scaling by sqrt(r) is Kalajdzievski 2023, arXiv:2312.03732. B
starts at zero everywhere, so the adapted model starts as the base. The fused qkv shares one A
between query, key and value; q, k and v named apart have an A and a B each, for their own rows.
Each target may have a rank r of its own, and with it a scale of its own.

Shape suffixes beside those of `adapters.method`: S the ranks of all row blocks added up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from torch import Tensor, nn

from adapters.folded import updated
from adapters.inject import adapted_linears, anatomy_of, replace_linear
from adapters.method import Dims, HfPeft, Identity, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import (
    canonical_rank,
    check_dropout,
    check_positive,
    check_rank,
    ranks,
)
from adapters.qkv import (
    All,
    Place,
    add_delta,
    canonical_targets,
    low_rank,
    part_shape,
    places,
    spread,
    target_shapes,
)
from adapters.spec import one_of

FAMILY = "low-rank"
PAPER = "arXiv:2106.09685"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of LoRA."""

    rank: int | tuple[int, ...] = 8
    """One rank for all targets, or one for each in the order in which `targets` lists them."""
    alpha: float = 8.0
    """Numerator of the scale s; it does not follow `rank`, so another rank is another scale."""
    rank_stabilised: bool = False
    """Divide `alpha` by the square root of `rank`."""
    dropout: float = 0.0
    """On the adapter's input only."""
    targets: tuple[str, ...] | All = ("qkv",)
    """Linears of a block, each adapted whole; or q, k, v, the row blocks of the fused qkv, apart."""
    init: Literal["kaiming", "gaussian"] = "kaiming"
    """How A starts: U(-1/sqrt(in), 1/sqrt(in)), or normal with standard deviation 1/rank."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(alpha=self.alpha)
        check_dropout(self.dropout)
        targets = canonical_targets(self.targets)
        if isinstance(self.rank, tuple):
            listed = targets if self.targets == "all" else self.targets
            if len(self.rank) != len(listed):
                raise ValueError(
                    f"rank: {list(self.rank)} given, allowed: an integer of at least 1, or a list "
                    f"of one for each of the {len(listed)} targets ({', '.join(listed)})"
                )
            of_target = dict(zip(listed, self.rank, strict=True))
            in_order = tuple(of_target[target] for target in targets)
            object.__setattr__(self, "rank", canonical_rank(in_order, targets))
        else:
            check_rank(self.rank)
        object.__setattr__(self, "targets", targets)
        one_of("init", self.init, ("kaiming", "gaussian"))

    def scale(self, rank: int) -> float:
        """Return the factor s of an update of this rank."""
        return self.alpha / (rank**0.5 if self.rank_stabilised else rank)

    def of_place(self, place: Place) -> Self:
        """Return the settings of one Linear."""
        of_target = dict(zip(self.targets, ranks(self.rank, len(self.targets)), strict=True))
        own = tuple(of_target[target] for target in place.targets)
        return replace(self, targets=place.targets, rank=own)


class LoraLinear(LinearAdapter):
    """A (P, R, I) and B (P, o, R) of one Linear; A (S, I) and B (o, S) where its ranks differ."""

    def __init__(
        self,
        base: nn.Linear,
        *,
        parts: tuple[str, ...],
        config: Config,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        p, o = part_shape(base.out_features, parts)
        self.parts, self.dropout = parts, config.dropout
        self.ranks = list(ranks(config.rank, p))
        self.scales = [config.scale(r) for r in self.ranks]
        self.same_rank = isinstance(config.rank, int)
        if self.same_rank:
            a = torch.empty(p, self.ranks[0], base.in_features)
            b = torch.zeros(p, o, self.ranks[0])
            drawn = [a]
        else:
            a = torch.empty(sum(self.ranks), base.in_features)
            b = torch.zeros(o, sum(self.ranks))
            drawn = list(torch.split(a, self.ranks))
        for part, r in zip(drawn, self.ranks, strict=False):  # one part where all have one rank
            if config.init == "kaiming":
                bound = base.in_features**-0.5
                nn.init.uniform_(part, -bound, bound, generator=generator)
            else:
                nn.init.normal_(part, std=1 / r, generator=generator)
        self.A, self.B = nn.Parameter(a), nn.Parameter(b)

    def down(self) -> Tensor:
        """Return A (P, R, I); a row block of a smaller rank than R has zeros below its own rows."""
        if self.same_rank:
            return self.A
        return nn.utils.rnn.pad_sequence(list(torch.split(self.A, self.ranks)), batch_first=True)

    def up(self) -> Tensor:
        """Return s B (P, o, R), zeros to the right of the columns of a smaller rank."""
        if self.same_rank:
            return self.scales[0] * self.B
        columns = zip(self.scales, torch.split(self.B, self.ranks, dim=1), strict=True)
        return nn.utils.rnn.pad_sequence([s * b_oR.T for s, b_oR in columns], batch_first=True).mT

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b + s B A x."""
        if not (self.dropout and self.training):
            return updated(x_BNI, base, self.down(), self.up(), self.parts)
        dropped_BNI = nn.functional.dropout(x_BNI, self.dropout)
        return add_delta(base(x_BNI), low_rank(dropped_BNI, self.down(), self.up()), self.parts)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + s B A and b."""
        return base.weight + spread(self.up() @ self.down(), self.parts), base.bias


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put an update beside each target of the chosen blocks."""
    return attach_updates(vit, config, generator, LoraLinear)


def attach_updates(
    vit: nn.Module, config: Config, generator: torch.Generator, kind: type[LoraLinear]
) -> list[str]:
    """Put a `kind` on each target of the chosen blocks; return the parameters' names."""
    names = []
    for block in config.blocks_of(vit):
        for place in places(config.targets, anatomy_of(vit, block)):
            own = config.of_place(place)
            make = partial(kind, parts=place.parts, config=own, generator=generator)
            names += replace_linear(vit, block, place.linear, make)
    return names


def count(config: Config, dims: Dims) -> int:
    """Sum r (in + out) over every Linear or row block of the chosen blocks."""
    found = zip(
        places(config.targets, dims.anatomy), target_shapes(config.targets, dims), strict=True
    )
    each = sum(sum(ranks(config.of_place(place).rank, p)) * (i + o) for place, (p, o, i) in found)
    return len(config.adapted_blocks(dims.depth)) * each


def hf_peft(vit: nn.Module, config: Config) -> HfPeft:
    """HF's lora_A (P R, I) and lora_B (O, P R): row blocks apart are blocks of one larger rank.

    The scale is kept by the alpha that HF's alpha / r asks for, rank-stabilised or not.
    """
    sizes: dict[str, int] = {}
    alphas: dict[str, float] = {}
    tensors: dict[str, Tensor] = {}
    for path, _, adapter in adapted_linears(vit, LoraLinear):
        # Row blocks of different ranks have different scales, which then stay in B.
        scale = adapter.scales[0] if adapter.same_rank else 1.0
        a_PRI, b_PoR = adapter.down(), adapter.B if adapter.same_rank else adapter.up()
        b_PoQ = torch.diag_embed(b_PoR.permute(1, 2, 0), dim1=0, dim2=2).flatten(2)
        tensors[f"model.{path}.lora_A.weight"] = a_PRI.flatten(0, 1)
        tensors[f"model.{path}.lora_B.weight"] = spread(b_PoQ, adapter.parts)
        sizes[path] = b_PoQ.shape[2]
        alphas[path] = scale * sizes[path]
    rank, alpha = next(iter(sizes.values())), next(iter(alphas.values()))
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {path: other for path, other in sizes.items() if other != rank},
        "lora_alpha": alpha,
        "alpha_pattern": {path: other for path, other in alphas.items() if other != alpha},
        "lora_dropout": config.dropout,
    }
    return settings, tensors
