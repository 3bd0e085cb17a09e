"""FacT-TK: all increments of a ViT as one Tucker decomposition.

    delta[p, q] = s V core[p, q] U   for each d x d tile of qkv, proj, fc1 and fc2 of every block
    S_n[a, b, m] = sum_c C[a, b, c] P[c, 12 n + m],   m = 0..11

Jie, Deng 2023, arXiv:2212.03145. Block n (of the chosen ones) takes its cores from S_n: S[:, :, m]^T
with m = 0, 1, 2, 3 for q, k, v, proj; m = 4..7 for fc1 and 8..11 for fc2. As in the source, the flat
index of those two's long side is 4 b + m, so that a tile of an MLP's core mixes slices and is not
one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapters.inject import replace_linear
from adapters.method import Dims, Identity
from adapters.methods import _fact
from adapters.methods._fact import FactConfig, FactLinear, Factors, check_dims, check_vit
from adapters.methods._shared import SharedTensors, give

FAMILY = "tensor"
PAPER = _fact.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(FactConfig):
    """Settings of FacT-TK."""


class TuckerFactors(Factors, SharedTensors):
    """U (R, d), V (d, R), C (R, R, R) and P (R, 12 k) for k chosen blocks."""

    def __init__(self, width: int, blocks: int, config: Config, generator: torch.Generator) -> None:
        super().__init__(width, config, generator)
        r, columns = config.rank, 12 * blocks
        self.C = _xavier((r, r, r), 2 * r * r, generator)
        self.P = _xavier((r, columns), r + columns, generator)

    def contract(self, blocks: slice) -> Sequence[dict[str, Tensor]]:
        """Return the core (P R, Q R) of each Linear, for each block."""
        p_cnm = self.P.reshape(len(self.C), -1, 12)[:, blocks]
        s_abnm = torch.einsum("abc,cnm->abnm", self.C, p_cnm)
        qkv, proj, fc1, fc2 = torch.split(s_abnm, [3, 1, 4, 4], dim=3)
        cores = {
            "qkv": qkv.permute(2, 3, 1, 0).flatten(1, 2),  # row m r + b, column a
            "proj": proj.permute(2, 3, 1, 0).flatten(1, 2),  # row b, column a
            "fc1": fc1.permute(2, 1, 3, 0).flatten(1, 2),  # row 4 b + m, column a
            "fc2": fc2.permute(2, 0, 1, 3).flatten(2, 3),  # row a, column 4 b + m
        }
        by_block = zip(*(core.unbind() for core in cores.values()), strict=True)
        return [dict(zip(cores, own, strict=True)) for own in by_block]


def _xavier(shape: tuple[int, ...], fans: int, generator: torch.Generator) -> nn.Parameter:
    """Draw from U(-sqrt(6 / fans), sqrt(6 / fans)), `fans` being fan in plus fan out."""
    bound = (6 / fans) ** 0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


class TuckerLinear(FactLinear):
    """A Linear whose core is contracted from C and P."""

    def __init__(
        self, _base: nn.Linear, *, factors: TuckerFactors, nth: int, linear: str, config: Config
    ) -> None:
        super().__init__(factors=factors, config=config)
        self.nth, self.linear = nth, linear
        self._shared = (factors,)

    def core_matrix(self) -> Tensor:
        """Return the core of this Linear in this block."""
        (shared,) = self._shared
        core_ST: Tensor = shared.of_block(self.nth)[self.linear]
        return core_ST


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Give the ViT one decomposition as `fact_tk`, and each Linear of the chosen blocks its part."""
    chosen = config.blocks_of(vit)
    width = check_vit("fact_tk", vit, chosen)
    factors = TuckerFactors(width, len(chosen), config, generator)
    factors.to(next(vit.parameters()).device)
    for nth, block in enumerate(chosen):
        for linear in _fact.TILES:
            make = partial(TuckerLinear, factors=factors, nth=nth, linear=linear, config=config)
            replace_linear(vit, block, linear, make)
    return give(vit, "fact_tk", factors)


def count(config: Config, dims: Dims) -> int:
    """Compute 2 d r + 12 k r + r^3 for k blocks."""
    check_dims("fact_tk", dims)
    k = len(config.adapted_blocks(dims.depth))
    return (2 * dims.width + 12 * k + config.rank**2) * config.rank
