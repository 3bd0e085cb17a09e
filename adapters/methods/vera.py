"""VeRA: two trained vectors per Linear around frozen random matrices that all Linears share.

    y = W x + b + lambda_b * (B (lambda_d * (A dropout(x))))

Kopiczko, Blankevoort, Asano 2023, arXiv:2310.11454. A (R x in) and B (out x R) are as large as the
largest target needs; a smaller one uses their first columns and rows. lambda_b starts at zero, so
the adapted model starts as the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapters.folded import folded, is_folded
from adapters.inject import adapted_linears
from adapters.method import Dims, HfPeft, Identity, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import check_dropout, check_positive, check_rank
from adapters.qkv import (
    All,
    add_delta,
    canonical_targets,
    part_shape,
    replace_targets,
    rows,
    spread,
    target_shapes,
    targeted,
)
from adapters.spec import at_least

FAMILY = "low-rank"
PAPER = "arXiv:2310.11454"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of VeRA."""

    rank: int = 256
    """Rank r of the frozen A and B."""
    d_initial: float = 0.1
    """Start of every element of lambda_d."""
    dropout: float = 0.0
    """On the adapter's input only."""
    targets: tuple[str, ...] | All = ("qkv",)
    """Projections named apart (q, k, v) share the rows of B and have their own vectors."""
    projection_seed: int = 0
    """Of A and B alone, so that runs of different seeds can share them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rank(self.rank)
        check_positive(d_initial=self.d_initial)
        check_dropout(self.dropout)
        object.__setattr__(self, "targets", canonical_targets(self.targets))
        at_least(0, projection_seed=self.projection_seed)


class Projections(nn.Module):
    """The frozen A (R, largest in) and B (largest out, R): one pair per ViT, which owns it.

    Both are U(-sqrt(6 / columns), sqrt(6 / columns)), A drawn first.
    """

    A: Tensor
    B: Tensor

    def __init__(self, rank: int, in_features: int, out_features: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
            bound = (6 / shape[1]) ** 0.5
            drawn = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, drawn)


class VeraLinear(LinearAdapter):
    """lambda_d (P, R) and lambda_b (P, o) of one Linear."""

    def __init__(
        self,
        base: nn.Linear,
        *,
        parts: tuple[str, ...],
        config: Config,
        projections: Projections,
    ) -> None:
        super().__init__()
        p, o = part_shape(base.out_features, parts)
        self.parts, self.dropout = parts, config.dropout
        self.lambda_d = nn.Parameter(torch.full((p, config.rank), config.d_initial))
        self.lambda_b = nn.Parameter(torch.zeros(p, o))
        # In a tuple, so that the ViT alone registers it and its state has A and B once.
        self._shared = (projections,)

    def _matrices(self, base: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return A (R, I) and B (o, R) of this Linear."""
        (shared,) = self._shared
        return shared.A[:, : base.in_features], shared.B[: self.lambda_b.shape[1]]

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b + lambda_b * (B (lambda_d * (A x)))."""
        a_RI, b_oR = self._matrices(base)
        if not (self.dropout and self.training) and is_folded(x_BNI, base):
            down_PRI = self.lambda_d.unsqueeze(2) * a_RI
            up_PoR = self.lambda_b.unsqueeze(2) * b_oR
            return folded(x_BNI, base, base.bias, down_PRI, up_PoR, self.parts)
        z_BNR = nn.functional.linear(
            nn.functional.dropout(x_BNI, self.dropout, self.training), a_RI
        )
        delta_BNPo = nn.functional.linear(z_BNR.unsqueeze(-2) * self.lambda_d, b_oR) * self.lambda_b
        return add_delta(base(x_BNI), delta_BNPo, self.parts)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + diag(lambda_b) B diag(lambda_d) A and b."""
        a_RI, b_oR = self._matrices(base)
        scaled_PoR = self.lambda_b.unsqueeze(2) * b_oR * self.lambda_d.unsqueeze(1)
        return base.weight + spread(scaled_PoR @ a_RI, self.parts), base.bias


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Give the ViT its A and B as `vera`, and each target of the chosen blocks its two vectors."""
    chosen = config.blocks_of(vit)
    _, outputs, inputs = zip(*targeted(vit, config.targets, chosen[0]), strict=True)
    projections = Projections(config.rank, max(inputs), max(outputs), config.projection_seed)
    projections.to(next(vit.parameters()).device)
    vit.add_module("vera", projections)
    make = partial(VeraLinear, config=config, projections=projections)
    return replace_targets(vit, config.targets, make, chosen)


def count(config: Config, dims: Dims) -> int:
    """Sum r + out over every Linear or row block of the chosen blocks."""
    shapes = target_shapes(config.targets, dims)
    k = len(config.adapted_blocks(dims.depth))
    return k * sum(p * (config.rank + o) for p, o, _ in shapes)


def hf_peft(vit: nn.Module, config: Config) -> HfPeft:
    """HF's one A, one B and a lambda_d and lambda_b for each whole Linear.

    HF knows no row blocks. Its rank here is R for each kind of them that is adapted (q, k, v, or a
    whole Linear: ""), A repeated and B at the rows of that kind; lambda_d is zero for other kinds.
    """
    shared = vit.get_submodule("vera")
    assert isinstance(shared, Projections)
    linears = list(adapted_linears(vit, VeraLinear))
    kinds = sorted({kind for _, _, adapter in linears for kind in adapter.parts or ("",)})
    r, largest = len(shared.A), max(base.out_features for _, base, _ in linears)
    b_KOR = shared.B.new_zeros(len(kinds), largest, r)
    tensors: dict[str, Tensor] = {}
    for path, _, adapter in linears:
        d_KR = shared.A.new_zeros(len(kinds), r)
        for kind, d_R in zip(adapter.parts or ("",), adapter.lambda_d, strict=True):
            o = adapter.lambda_b.shape[1]
            b_KOR[kinds.index(kind), rows(kind, o) if kind else slice(o)] = shared.B[:o]
            d_KR[kinds.index(kind)] = d_R
        tensors[f"model.{path}.vera_lambda_d"] = d_KR.flatten()
        tensors[f"model.{path}.vera_lambda_b"] = spread(adapter.lambda_b, adapter.parts)
    tensors["vera_A"] = shared.A.repeat(len(kinds), 1)
    tensors["vera_B"] = b_KOR.permute(1, 0, 2).flatten(1)
    settings = {
        "peft_type": "VERA",
        "r": len(kinds) * r,
        "vera_dropout": config.dropout,
        "projection_prng_key": config.projection_seed,
        "save_projection": True,
    }
    return settings, tensors
