"""What the tensor methods of the TLoRA project share: one factored delta on q, k and v of a block.

    y_c = (W_c + up_c down_c) x + b_c,   c = q, k, v

Each method names its factors and how `down` and `up` come from them; the output projection and the
MLP stay as they are. No alpha, no scaling, no dropout. The d x d delta is built only to merge; the
project's own code builds it in every forward pass, which is the same function.

Where q, k and v are Linears of their own, each takes its row of the same factors.

Factors that start "orthogonal" have orthonormal columns, or rows where there are fewer rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adapters.anatomy import PROJECTIONS
from adapters.folded import updated
from adapters.inject import linear_of, replace_together
from adapters.method import LinearAdapter
from adapters.qkv import spread

PAPER = "Tensor Factorization PEFT (TLoRA), project README"


class FactoredQkv(LinearAdapter):
    """A delta on the qkv, given by two small matrices per projection."""

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return `down` (3, R, d), or (1, R, d) where q, k and v share it, and `up` (3, d, R)."""
        raise NotImplementedError

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b + up (down x)."""
        return updated(x_BNI, base, *self.factors(), PROJECTIONS)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + up down and b."""
        down_QRI, up_PoR = self.factors()
        return base.weight + spread(up_PoR @ down_QRI, PROJECTIONS), base.bias


class FactoredPart(LinearAdapter):
    """The delta of q, k or v (`at` 0, 1 or 2) alone, where it is a Linear of its own."""

    def __init__(self, whole: FactoredQkv, at: int) -> None:
        super().__init__()
        self.at = at
        # In a tuple, so that one of the three registers it and its state has the factors once.
        self._whole = (whole,)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Return `down` (1, R, d) and `up` (1, d, R)."""
        (whole,) = self._whole
        down_QRI, up_PoR = whole.factors()
        at = slice(self.at, self.at + 1)
        return down_QRI if len(down_QRI) == 1 else down_QRI[at], up_PoR[at]

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b + up (down x)."""
        return updated(x_BNI, base, *self._factors(), ())

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W + up down and b."""
        down_1RI, up_1oR = self._factors()
        return base.weight + spread(up_1oR @ down_1RI, ()), base.bias


def attach_to_qkv(
    vit: nn.Module, blocks: Sequence[int], make: Callable[[nn.Linear], FactoredQkv]
) -> list[str]:
    """Put `make(base)` on the qkv of each of `blocks`; return the parameters' names.

    `base` is the fused Linear, or the query's where the three are apart.
    """
    return [
        name for block in blocks for name in replace_together(vit, block, "qkv", make, FactoredPart)
    ]


def heads_of(method: str, vit: nn.Module) -> int:
    """Return the number of attention heads of a ViT whose width they divide."""
    heads = int(vit.get_submodule("blocks.0.attn").num_heads)  # type: ignore[arg-type]
    head_width(method, linear_of(vit, 0, "proj").out_features, heads)
    return heads


def head_width(method: str, width: int, heads: int) -> int:
    """Return the output rows of one head in each of q, k and v."""
    if width % heads:
        raise ValueError(
            f"{method}: a ViT of width {width} with {heads} heads given, "
            "allowed: a width that the heads divide"
        )
    return width // heads


def orthogonal(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    """Draw a factor with orthonormal columns, or rows where there are fewer of them."""
    return nn.Parameter(nn.init.orthogonal_(torch.empty(rows, columns), generator=generator))


def orthogonal_each(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    """Draw one such factor for each of q, k and v (3, rows, columns)."""
    drawn = [orthogonal(rows, columns, generator).detach() for _ in PROJECTIONS]
    return nn.Parameter(torch.stack(drawn))


def normal(rows: int, columns: int, std: float, generator: torch.Generator) -> nn.Parameter:
    """Draw a factor from N(0, std)."""
    return nn.Parameter(torch.empty(rows, columns).normal_(std=std, generator=generator))


def zeros(*shape: int) -> nn.Parameter:
    """Start a core or factor at zero, which makes the delta start at exactly zero."""
    return nn.Parameter(torch.zeros(*shape))
