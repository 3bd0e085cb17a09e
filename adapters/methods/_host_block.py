"""Blocks of ours that stand where the ViT had a timm block, and keep what it was made of.

A timm `Block`, with frozen parts (ls is LayerScale or nothing, dp stochastic depth or nothing):

    x' = x + dp1(ls1(attn(norm1(x)))),   x'' = x' + dp2(ls2(mlp(norm2(x'))))

timm's `EvaBlock` is the same: its LayerScale are parameters `gamma_1` and `gamma_2`, and its
attention is also given rotary positions, which are passed on as they come.

Children and parameters keep their names, so `blocks.3.attn.qkv` is found where it always was. None
of these can be merged: the methods that use them are not linear in the tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from adapters.inject import blocks

Source = Literal["stream", "normed", "output"]


class HostBlock(nn.Module):
    """A block with the children of a timm block; subclasses say what is computed.

    Where an argument is called `given` it is what timm calls blocks with beside the tokens: how
    their attention is masked, and their rotary positions.
    """

    norm1: nn.Module
    attn: nn.Module
    drop_path1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    drop_path2: nn.Module

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        for name, parameter in block.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def attention(self, x_BND: Tensor, **given: Any) -> Tensor:
        """Return x', as the timm block computes it."""
        out_BND: Tensor = x_BND + self.drop_path1(self.attended(self.norm1(x_BND), **given))
        return out_BND

    def feed_forward(self, x_BND: Tensor) -> Tensor:
        """Return x'' from x', as the timm block computes it."""
        out_BND: Tensor = x_BND + self.drop_path2(self.fed(self.norm2(x_BND)))
        return out_BND

    def attended(self, n_BND: Tensor, **given: Any) -> Tensor:
        """Return ls1(attn(n))."""
        return self._scaled(self.attn(n_BND, **given), "ls1", "gamma_1")

    def fed(self, n_BND: Tensor) -> Tensor:
        """Return ls2(mlp(n))."""
        return self._scaled(self.mlp(n_BND), "ls2", "gamma_2")

    def _scaled(self, y_BND: Tensor, layer_scale: str, gamma: str) -> Tensor:
        own = self._modules.get(layer_scale)
        if own is not None:
            y_BND = own(y_BND)
        factor_D = self._parameters.get(gamma)
        return y_BND if factor_D is None else factor_D * y_BND


class BranchedBlock(HostBlock):
    """A block whose branches each add what an adapter T makes of one of their stages.

    x' = x + dp1(y + T(source)),   y = ls1(attn(n)),   n = norm1(x),   and the same for the MLP

    where the source is the `stream` x, the `normed` n or the `output` y. LayerScale acts once, on
    the frozen branch only: a T that gives zero leaves the block as it was.
    """

    def __init__(
        self,
        block: nn.Module,
        *,
        source: Source,
        attn_adapter: nn.Module | None = None,
        mlp_adapter: nn.Module | None = None,
    ) -> None:
        super().__init__(block)
        self.source = source
        self.factor = 1.0
        """What the adapters' outputs are multiplied by: 0 is the block as it was."""
        self.attn_adapter, self.mlp_adapter = attn_adapter, mlp_adapter

    def forward(self, x_BND: Tensor, **given: Any) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        n_BND = self.norm1(x_BND)
        y_BND = self.attended(n_BND, **given)
        y_BND = self._adapted(self.attn_adapter, x_BND, n_BND, y_BND)
        x_BND = x_BND + self.drop_path1(y_BND)
        n_BND = self.norm2(x_BND)
        y_BND = self.fed(n_BND)
        y_BND = self._adapted(self.mlp_adapter, x_BND, n_BND, y_BND)
        out_BND: Tensor = x_BND + self.drop_path2(y_BND)
        return out_BND

    def _adapted(
        self, adapter: nn.Module | None, x_BND: Tensor, n_BND: Tensor, y_BND: Tensor
    ) -> Tensor:
        if adapter is None:
            return y_BND
        source_BND = {"stream": x_BND, "normed": n_BND, "output": y_BND}[self.source]
        added_BND = adapter(source_BND)
        out_BND: Tensor = y_BND + (added_BND if self.factor == 1.0 else self.factor * added_BND)
        return out_BND


def host_block(
    vit: nn.Module, index: int, make: Callable[[nn.Module], HostBlock], *, method: str
) -> list[str]:
    """Put `make(block)` where the ViT has the block; return the names of the parameters it adds.

    Raises ValueError naming `method` where that is neither timm's `Block` nor its `EvaBlock`.
    """
    # Here and not above, since timm takes a second to import and suites need only the settings.
    from timm.models.eva import EvaBlock
    from timm.models.vision_transformer import Block

    block = blocks(vit)[index]
    if type(block) not in (Block, EvaBlock):
        raise ValueError(
            f"{method}: blocks.{index} is a {type(block).__name__}, allowed: timm's pre-norm Block "
            "or EvaBlock"
        )
    own = {name for name, _ in block.named_parameters()}
    host = make(block).to(next(block.parameters()).device).train(block.training)
    vit.set_submodule(f"blocks.{index}", host)
    return [f"blocks.{index}.{name}" for name, _ in host.named_parameters() if name not in own]
