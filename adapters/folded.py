"""A low-rank change of a frozen Linear, multiplied as one weight and learned as two factors.

    y = x (W + U D)^T + b        D (Q, R, I) and U (P, o, R), row block by row block

The plain way, W x + U (D x), reads and writes activations three more times than the Linear itself.
Here U D is added to W, which is small beside them, and one multiplication does the rest. The
gradients need no tensor of W's size either, z = D x and h = U^T g being thin:

    dU = g^T z        dD = h^T x        dx = g (W + U D)

unless R is so large that the dense g^T x is cheaper. Nothing is kept for the backward pass but the
factors and x, or z where D does not learn. Only in full precision: a sum in bfloat16 would lose a
small U D in the digits of W.

Shape suffixes: B batch, N tokens, T all tokens of a batch, I input features, O output features, R
rank, P row blocks, Q is P or 1 where they share D, o the rows of one of them, S is Q R.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adapters.qkv import add_delta, low_rank, output_blocks, spread


def updated(
    x_BNI: Tensor,
    base: nn.Linear,
    down_QRI: Tensor,
    up_PoR: Tensor,
    parts: tuple[str, ...],
) -> Tensor:
    """Compute W x + b + up (down x) (B, N, O), `parts` being as in `adapters.qkv.Place`."""
    if is_folded(x_BNI, base):
        return folded(x_BNI, base, base.bias, down_QRI, up_PoR, parts)
    return add_delta(base(x_BNI), low_rank(x_BNI, down_QRI, up_PoR), parts)


def folded(
    x_BNI: Tensor,
    base: nn.Linear,
    bias_O: Tensor | None,
    down_QRI: Tensor,
    up_PoR: Tensor,
    parts: tuple[str, ...],
) -> Tensor:
    """The same in one multiplication, with a bias of its own; where `is_folded` says that it pays."""
    learns = torch.is_grad_enabled()  # inside it never is
    out: Tensor = _Folded.apply(x_BNI, base.weight, bias_O, down_QRI, up_PoR, parts, learns)
    return out


def is_folded(x_BNI: Tensor, base: nn.Linear) -> bool:
    """Whether one multiplication costs less than three and gives the same to float32's last digits."""
    if type(base) is not nn.Linear or base.weight.requires_grad:
        return False  # another adapter's work, or a weight that is trained, too
    if base._forward_hooks or base._forward_pre_hooks:  # noqa: SLF001 - somebody watches the Linear
        return False
    outputs, inputs = base.weight.shape
    tokens = x_BNI.numel() // inputs
    return _in_full_precision(x_BNI) and tokens * (inputs + outputs) > inputs * outputs


def _in_full_precision(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and not torch.is_autocast_enabled(x.device.type)
        and not (x.is_cuda and torch.backends.cuda.matmul.allow_tf32)
    )


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BNI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        down_QRI: Tensor,
        up_PoR: Tensor,
        parts: tuple[str, ...],
        learns: bool,
    ) -> Tensor:
        ctx.parts = parts
        *_, needs_down, needs_up, _, _ = ctx.needs_input_grad
        ctx.dense = _is_dense(down_QRI, up_PoR, needs_down + needs_up)
        ctx.keeps_z = learns and needs_up and not needs_down and not ctx.dense
        kept_TK = x_BNI.flatten(0, -2)
        if ctx.keeps_z:
            kept_TK = kept_TK @ down_QRI.flatten(0, 1).T
        ctx.save_for_backward(kept_TK, weight_OI, down_QRI, up_PoR)
        return nn.functional.linear(x_BNI, _sum(weight_OI, down_QRI, up_PoR, parts), bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g_BNO,) = gradients
        kept_TK, weight_OI, down_QRI, up_PoR = ctx.saved_tensors
        needs_x, _, needs_bias, needs_down, needs_up, _, _ = ctx.needs_input_grad
        g_TO = g_BNO.flatten(0, -2)
        dx_BNI = g_BNO @ _sum(weight_OI, down_QRI, up_PoR, ctx.parts) if needs_x else None
        d_bias_O = g_TO.sum(0) if needs_bias else None
        g_TPo = _blocks(g_TO, up_PoR, ctx.parts)
        d_down_QRI = d_up_PoR = None
        if ctx.dense:
            g_PoI = torch.einsum("tpo,ti->poi", g_TPo, kept_TK)
            if needs_up:
                d_up_PoR = g_PoI @ down_QRI.mT
            if needs_down:
                d_down_QRI = (up_PoR.mT @ g_PoI).sum_to_size(down_QRI.shape)
        else:
            if needs_up:
                z_TS = kept_TK if ctx.keeps_z else kept_TK @ down_QRI.flatten(0, 1).T
                d_up_PoR = _of_up(g_TPo, z_TS, down_QRI)
            if needs_down:
                d_down_QRI = _of_down(g_TPo, kept_TK, up_PoR, down_QRI)
        return dx_BNI, None, d_bias_O, d_down_QRI, d_up_PoR, None, None


def _sum(weight_OI: Tensor, down_QRI: Tensor, up_PoR: Tensor, parts: tuple[str, ...]) -> Tensor:
    return weight_OI + spread(up_PoR @ down_QRI, parts)


def _blocks(g_TO: Tensor, up_PoR: Tensor, parts: tuple[str, ...]) -> Tensor:
    """The gradient of each row block (T, P, o)."""
    return output_blocks(g_TO, parts) if parts else g_TO.view(-1, *up_PoR.shape[:2])


def _is_dense(down_QRI: Tensor, up_PoR: Tensor, learning: int) -> bool:
    """Whether the thin products of one or both factors cost more than one of the weight's size."""
    (q, r, i), (p, o, _) = down_QRI.shape, up_PoR.shape
    return r * (q * i + p * o) * learning > p * o * i


# The thin side comes first in each product: with it last they take twice as long on a CPU.


def _of_up(g_TPo: Tensor, z_TS: Tensor, down_QRI: Tensor) -> Tensor:
    (_, p, o), (q, r, _) = g_TPo.shape, down_QRI.shape
    if q == p:
        return torch.einsum("tpr,tpo->pro", z_TS.view(-1, q, r), g_TPo).mT
    return (z_TS.T @ g_TPo.flatten(1)).view(r, p, o).permute(1, 2, 0)


def _of_down(g_TPo: Tensor, x_TI: Tensor, up_PoR: Tensor, down_QRI: Tensor) -> Tensor:
    if len(down_QRI) == len(up_PoR):
        h_ST = torch.einsum("por,tpo->prt", up_PoR, g_TPo).flatten(0, 1)
    else:
        h_ST = up_PoR.flatten(0, 1).T @ g_TPo.flatten(1).T
    return (h_ST @ x_TI).view(down_QRI.shape)
