"""Multi-Layer Tucker: the updates of q, k and v of all blocks as one Tucker decomposition.

    delta_{n,c}[o, i] = sum_{l,m,a,b} G[l, m, a, b] E[n, l] M[c, m] R[o, a] K[i, b]

for block n and c = q, k, v. From the TLoRA project, whose names G, E, M, R, K are kept: R is the
output side, K the input side. The project keeps one such adapter per process and builds the updates
of all blocks in each; here every ViT owns its own and a block contracts its own row of E, which has
one for each chosen block. The core starts at zero, the factors start orthogonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from adapters.inject import linear_of
from adapters.method import Dims, Identity
from adapters.methods import _tlora_family
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import canonical_rank, ranks
from adapters.methods._shared import SharedTensors, give
from adapters.methods._tlora_family import FactoredQkv, attach_to_qkv, orthogonal, zeros

FAMILY = "tensor"
PAPER = _tlora_family.PAPER
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1
MODES = ("blocks", "qkv", "output", "input")


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of Multi-Layer Tucker."""

    rank: int | tuple[int, int, int, int] = 8
    """One rank for all modes, or those of blocks, q/k/v, output and input."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rank", canonical_rank(self.rank, MODES))


class MultiLayerTucker(SharedTensors):
    """G (l, m, a, b), E (k, l) over the k chosen blocks, M (3, m) over q, k, v, R (d, a), K (d, b)."""

    def __init__(
        self, *, blocks: int, width: int, rank: tuple[int, ...], generator: torch.Generator
    ) -> None:
        super().__init__()
        l, m, a, b = rank
        self.G = zeros(l, m, a, b)
        self.E = orthogonal(blocks, l, generator)
        self.M = orthogonal(3, m, generator)
        self.R = orthogonal(width, a, generator)
        self.K = orthogonal(width, b, generator)

    def contract(self, blocks: slice) -> Sequence[Tensor]:
        """Return R (sum_{l,m} E[n, l] M[c, m] G[l, m]) (3, d, b) of each block n."""
        core_nmab = torch.einsum("nl,lmab->nmab", self.E[blocks], self.G)
        core_ncab = torch.einsum("cm,nmab->ncab", self.M, core_nmab)
        return torch.einsum("oa,ncab->ncob", self.R, core_ncab).unbind()


class MultiLayerTuckerQkv(FactoredQkv):
    """The delta of one block, whose row of E is `row`."""

    def __init__(self, _base: nn.Linear, *, shared: MultiLayerTucker, row: int) -> None:
        super().__init__()
        self.row = row
        # In a tuple, so that the ViT alone registers it and its state has the tensors once.
        self._shared = (shared,)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return K^T, shared, and this block's contraction."""
        (shared,) = self._shared
        return shared.K.T.unsqueeze(0), shared.of_block(self.row)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Give the ViT one decomposition as `multi_layer_tucker`, and each chosen qkv its part of it."""
    chosen = config.blocks_of(vit)
    proj = linear_of(vit, chosen[0], "proj")
    shared = MultiLayerTucker(
        blocks=len(chosen),
        width=proj.out_features,
        rank=ranks(config.rank, len(MODES)),
        generator=generator,
    ).to(proj.weight.device)
    for row, block in enumerate(chosen):
        attach_to_qkv(vit, [block], partial(MultiLayerTuckerQkv, shared=shared, row=row))
    return give(vit, "multi_layer_tucker", shared)


def count(config: Config, dims: Dims) -> int:
    """Compute r_l r_m r_a r_b + k r_l + 3 r_m + d r_a + d r_b for k blocks."""
    l, m, a, b = ranks(config.rank, len(MODES))
    k = len(config.adapted_blocks(dims.depth))
    return l * m * a * b + k * l + 3 * m + dims.width * (a + b)
