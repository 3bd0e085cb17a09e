"""LoRA: a low-rank update beside each frozen Linear.

    y = W x + b + s B A dropout(x),   s = alpha / r (rank-stabilised: alpha / sqrt(r))

Hu et al. 2021, arXiv:2106.09685; the scaling by sqrt(r) is Kalajdzievski 2023, arXiv:2312.03732. B
starts at zero everywhere, so the adapted model starts as the base. The fused qkv shares one A
between query, key and value; q, k and v named apart have an A and a B each, for their own rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from adapters.inject import adapted_linears
from adapters.method import Dims, HfPeft, Identity, LinearAdapter
from adapters.methods._settings import check_dropout, check_positive, check_rank
from adapters.qkv import (
    add_delta,
    canonical_targets,
    low_rank,
    part_shape,
    replace_targets,
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
class Config:
    """Settings of LoRA."""

    rank: int = 8
    alpha: float = 8.0
    """Numerator of the scale s; it does not follow `rank`, so another rank is another scale."""
    rank_stabilised: bool = False
    """Divide `alpha` by the square root of `rank`."""
    dropout: float = 0.0
    """On the adapter's input only."""
    targets: tuple[str, ...] = ("qkv",)
    init: Literal["kaiming", "gaussian"] = "kaiming"
    """How A starts: U(-1/sqrt(in), 1/sqrt(in)), or normal with standard deviation 1/rank."""

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_positive(alpha=self.alpha)
        check_dropout(self.dropout)
        object.__setattr__(self, "targets", canonical_targets(self.targets))
        one_of("init", self.init, ("kaiming", "gaussian"))

    @property
    def scale(self) -> float:
        """The factor s of the update."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


class LoraLinear(LinearAdapter):
    """A (P, R, I) and B (P, o, R) of one Linear."""

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
        self.parts, self.scale, self.dropout = parts, config.scale, config.dropout
        self.A = nn.Parameter(torch.empty(p, config.rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(p, o, config.rank))
        if config.init == "kaiming":
            bound = base.in_features**-0.5
            nn.init.uniform_(self.A, -bound, bound, generator=generator)
        else:
            nn.init.normal_(self.A, std=1 / config.rank, generator=generator)

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b + s B A x."""
        dropped_BNI = nn.functional.dropout(x_BNI, self.dropout, self.training)
        return add_delta(
            base(x_BNI), low_rank(dropped_BNI, self.A, self.scale * self.B), self.parts
        )

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + s B A and b."""
        return base.weight + spread(self.scale * self.B @ self.A, self.parts), base.bias


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Put an update beside each target of every block."""
    return replace_targets(
        vit, config.targets, partial(LoraLinear, config=config, generator=generator)
    )


def count(config: Config, dims: Dims) -> int:
    """Sum r (in + out) over every Linear or row block of every block."""
    shapes = target_shapes(config.targets, dims)
    return dims.depth * sum(p * config.rank * (i + o) for p, o, i in shapes)


def hf_peft(vit: nn.Module, config: Config) -> HfPeft:
    """HF's lora_A (P R, I) and lora_B (O, P R): row blocks apart are blocks of one larger rank.

    The scale is kept by the alpha that HF's alpha / r asks for, rank-stabilised or not.
    """
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    tensors: dict[str, Tensor] = {}
    for path, _, adapter in adapted_linears(vit, LoraLinear):
        a_PRI, b_PoR = adapter.A, adapter.B
        b_PoQ = torch.diag_embed(b_PoR.permute(1, 2, 0), dim1=0, dim2=2).flatten(2)
        tensors[f"model.{path}.lora_A.weight"] = a_PRI.flatten(0, 1)
        tensors[f"model.{path}.lora_B.weight"] = spread(b_PoQ, adapter.parts)
        ranks[path] = b_PoQ.shape[2]
        alphas[path] = adapter.scale * ranks[path]
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {path: other for path, other in ranks.items() if other != rank},
        "lora_alpha": alpha,
        "alpha_pattern": {path: other for path, other in alphas.items() if other != alpha},
        "lora_dropout": config.dropout,
    }
    return settings, tensors
