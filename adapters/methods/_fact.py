"""What both forms of FacT share: two factors per ViT and a small core per Linear of a block.

    delta[p, q] = s V core[p, q] U

U (r, d) and V (d, r) are the same for all chosen blocks and all Linears. A Linear's weight is seen as P x Q
tiles of d x d, a core as P x Q tiles of r x r; q, k and v are three tiles of the fused qkv, fc1 is
four tiles of outputs and fc2 four tiles of inputs. Jie, Deng 2023, arXiv:2212.03145. V starts at
zero. Dropout acts between core and V.

Shape suffixes beside those of `adapters.method`: d width, R rank, S = P R, T = Q R.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from adapters.anatomy import UnfitError
from adapters.folded import folded, is_folded
from adapters.inject import anatomy_of, linear_of, linear_sizes
from adapters.method import Dims, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._settings import check_dropout, check_positive, check_rank
from adapters.qkv import add_delta
from adapters.spec import one_of

PAPER = "arXiv:2212.03145"
TILES = {"qkv": (3, 1), "proj": (1, 1), "fc1": (4, 1), "fc2": (1, 4)}
"""P and Q of each Linear of a block."""


@dataclass(frozen=True, kw_only=True)
class FactConfig(ChosenBlocks):
    """Settings of FacT."""

    rank: int = 8
    """Rank r of U and V; the core of a tile is r x r."""
    scale: float = 1.0
    """The factor s of the update."""
    dropout: float = 0.1
    """On what leaves the core."""
    init: Literal["paper", "study"] = "paper"
    """`study` is how FacT in fact started in the study arXiv:2409.16434: U, V and the cores of FacT-TT
    truncated normal with standard deviation 0.02, so that the model does not start as the base."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rank(self.rank)
        check_positive(scale=self.scale)
        check_dropout(self.dropout)
        one_of("init", self.init, ("paper", "study"))


class Factors(nn.Module):
    """U (R, d) and V (d, R): one pair per ViT, which owns it."""

    def __init__(self, width: int, config: FactConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.U = linear_start(config.rank, width, config, generator)
        self.V = linear_start(width, config.rank, config, generator)
        if config.init == "paper":
            nn.init.zeros_(self.V)


def linear_start(
    rows: int, columns: int, config: FactConfig, generator: torch.Generator
) -> nn.Parameter:
    """Draw a matrix as torch's Linear does, or as `config.init` says."""
    drawn = torch.empty(rows, columns)
    if config.init == "study":
        nn.init.trunc_normal_(drawn, std=0.02, generator=generator)
    else:
        drawn.uniform_(-(columns**-0.5), columns**-0.5, generator=generator)
    return nn.Parameter(drawn)


class FactLinear(LinearAdapter):
    """The delta of one Linear; subclasses say where its core comes from."""

    def __init__(self, *, factors: Factors, config: FactConfig) -> None:
        super().__init__()
        self.scale, self.dropout = config.scale, config.dropout
        # In a tuple, so that the ViT alone registers it and its state has U and V once.
        self._factors = (factors,)

    def core_matrix(self) -> Tensor:
        """Return the core of this Linear."""
        raise NotImplementedError

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b + s V dropout(core (U x)), tile by tile."""
        (factors,) = self._factors
        r, d = factors.U.shape
        if not (self.dropout and self.training) and is_folded(x_BNI, base):
            core_ST = self.core_matrix()
            core_PRQR = core_ST.view(len(core_ST) // r, r, -1, r)
            down_PRI = torch.einsum("prqs,si->prqi", core_PRQR, factors.U).flatten(2)
            up_PdR = (self.scale * factors.V).expand(len(down_PRI), -1, -1)
            return folded(x_BNI, base, base.bias, down_PRI, up_PdR, ())
        x_BNQd = x_BNI.reshape(*x_BNI.shape[:-1], -1, d)
        u_BNT = nn.functional.linear(x_BNQd, factors.U).flatten(-2)
        z_BNS = nn.functional.linear(u_BNT, self.core_matrix())
        z_BNS = nn.functional.dropout(z_BNS, self.dropout, self.training)
        z_BNPR = z_BNS.reshape(*z_BNS.shape[:-1], -1, r)
        delta_BNPd = nn.functional.linear(z_BNPR, self.scale * factors.V)
        return add_delta(base(x_BNI), delta_BNPd, ())

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + s V core U and b."""
        (factors,) = self._factors
        r, d = factors.U.shape
        p, q = base.out_features // d, base.in_features // d
        core_PRQR = self.core_matrix().reshape(p, r, q, r)
        delta_PdQd = torch.einsum("or,prqs,si->poqi", self.scale * factors.V, core_PRQR, factors.U)
        return base.weight + delta_PdQd.reshape(base.weight.shape), base.bias


def check_vit(method: str, vit: nn.Module, blocks: list[int]) -> int:
    """Return the width of a ViT; ValueError unless each Linear of `blocks` has its tiles."""
    width = linear_of(vit, blocks[0], "proj").out_features
    for block in blocks:
        bases = {name: linear_of(vit, block, name) for name in anatomy_of(vit, block).linears}
        sizes = {name: (base.in_features, base.out_features) for name, base in bases.items()}
        _check_tiles(method, width, sizes)
    return width


def check_dims(method: str, dims: Dims) -> None:
    """Raise ValueError as `check_vit`, from the sizes alone."""
    _check_tiles(method, dims.width, linear_sizes(dims))


def _check_tiles(method: str, width: int, sizes: dict[str, tuple[int, int]]) -> None:
    for name, (p, q) in TILES.items():
        if name not in sizes:
            raise UnfitError(
                f"{method}: a ViT without adaptable {name} given ({', '.join(sizes)}), allowed: one "
                f"with the Linears {', '.join(TILES)}"
            )
        if sizes[name] != (q * width, p * width):
            raise ValueError(
                f"{method}: {name} with (in, out) {sizes[name]} on a ViT of width {width} given, "
                f"allowed: {(q * width, p * width)}, an MLP of four times the width"
            )
