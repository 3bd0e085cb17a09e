"""VQT, visual query tuning: queries read the chosen blocks, change none; the head sees the sum.

    [z_i; x_i+1] = Block_i([Q_i; x_i]), with keys and values from x_i alone
    f = sum_i sum_j w_ij normalise(z_ij) + w normalise(LN(x_L)[class]),   logits = head(f)

Tu, Mai, Chao 2023, arXiv:2212.03220. The frozen stream x is the base model's and needs no backward
pass. This is the repaired definition of the specification: the code of the OSU study
(arXiv:2409.16434) drops the queries before it reads them and normalises over tokens, so that its
queries never get a gradient. Vectors are normalised to length one over their features.

Shape suffixes: B batch (1: the same for all images), N tokens, Q queries, D width, h heads, e the
width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize, scaled_dot_product_attention

from adapters.inject import blocks
from adapters.method import Dims, Identity
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._host_block import HostBlock, host_block
from adapters.methods._prompts import draw_prompts
from adapters.methods._settings import check_dropout
from adapters.methods._whole_numbers import check_sizes
from adapters.spec import one_of

FAMILY = "prompt"
PAPER = "arXiv:2212.03220"
IDENTITY_AT_START: Identity = "no"
MERGEABLE = False
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of VQT."""

    prompts: int = 10
    """Query tokens n for each block."""
    dropout: float = 0.1
    """On the queries, with one mask for the whole batch."""
    init: Literal["ones", "study"] = "ones"
    """How the weights w start; `study` is N(0, 0.02) truncated, as the study's code began with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(prompts=self.prompts)
        check_dropout(self.dropout)
        one_of("init", self.init, ("ones", "study"))


class QueriedBlock(HostBlock):
    """A block with queries (Q, D) and the weights (Q) of what they read.

    It hands on the stream and, beside it, the sum of what was read so far.
    """

    attn: Any
    ls1: nn.Module

    def __init__(
        self, block: nn.Module, *, queries_QD: Tensor, weights_Q: Tensor, dropout: float
    ) -> None:
        super().__init__(block)
        self.queries, self.combine = nn.Parameter(queries_QD), nn.Parameter(weights_Q)
        self.dropout = dropout

    def forward(self, carried: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Take x (B, N, D), with the sum (B, D) but for the first to read; return both."""
        x_BND, sum_BD = carried if isinstance(carried, tuple) else (carried, None)
        queries_1QD = dropout(self.queries, self.dropout, self.training).unsqueeze(0)
        reader_1hQe, _, _ = self._heads(self.norm1(queries_1QD))
        q_BhNe, k_BhNe, v_BhNe = self._heads(self.norm1(x_BND))
        reader_BhQe = reader_1hQe.expand(x_BND.shape[0], -1, -1, -1)
        # Apart from each other, so that autograd has nothing to keep of the frozen stream.
        z_BQD = self._attended(queries_1QD, reader_BhQe, k_BhNe, v_BhNe)
        x_BND = self._attended(x_BND, q_BhNe, k_BhNe, v_BhNe)
        z_BQD, x_BND = self.feed_forward(z_BQD), self.feed_forward(x_BND)
        read_BD = torch.einsum("q,bqd->bd", self.combine, normalize(z_BQD, dim=-1))
        return x_BND, read_BD if sum_BD is None else sum_BD + read_BD

    def _heads(self, n_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value (B, h, N, e)."""
        qkv_BN3he = self.attn.qkv(n_BND).unflatten(-1, (3, self.attn.num_heads, -1))
        q_BhNe, k_BhNe, v_BhNe = qkv_BN3he.permute(2, 0, 3, 1, 4).unbind(0)
        return self.attn.q_norm(q_BhNe), self.attn.k_norm(k_BhNe), v_BhNe

    def _attended(self, x_BND: Tensor, q_BhNe: Tensor, k_BhNe: Tensor, v_BhNe: Tensor) -> Tensor:
        """Add to x what timm's attention makes of query, key and value."""
        attn = self.attn
        drop = attn.attn_drop.p if self.training else 0.0
        y_BhNe = scaled_dot_product_attention(q_BhNe, k_BhNe, v_BhNe, dropout_p=drop)
        y_BND = attn.norm(y_BhNe.transpose(1, 2).flatten(2))
        y_BND = attn.proj_drop(attn.proj(y_BND))
        out_BND: Tensor = x_BND + self.drop_path1(self.ls1(y_BND))
        return out_BND


class PassingBlock(HostBlock):
    """A block without queries behind one that has some: it hands the sum on."""

    def forward(self, carried: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Take x (B, N, D) and the sum (B, D); return both."""
        x_BND, sum_BD = carried
        return self.feed_forward(self.attention(x_BND)), sum_BD


class CombinedNorm(nn.Module):
    """Stands where the ViT had its final norm; `combine` (1) weighs the class token."""

    def __init__(self, base: nn.Module, weight: Tensor) -> None:
        super().__init__()
        self.base, self.combine = base, nn.Parameter(weight)

    def forward(self, carried: tuple[Tensor, Tensor]) -> Tensor:
        """Return f as the only token (B, 1, D), which is then pooled as the class token is."""
        x_BND, sum_BD = carried
        class_BD = normalize(self.base(x_BND[:, :1])[:, 0], dim=-1)
        return (sum_BD + self.combine * class_BD).unsqueeze(1)


def attach(vit: nn.Module, config: Config, generator: torch.Generator) -> list[str]:
    """Give each chosen block its queries, and let the final norm add up what they read."""
    timm_vit: Any = vit
    if timm_vit.global_pool != "token" or not isinstance(timm_vit.fc_norm, nn.Identity):
        raise ValueError(
            f"vqt: a ViT with pooling {timm_vit.global_pool!r} and fc_norm "
            f"{type(timm_vit.fc_norm).__name__} given, allowed: the class token, normed before"
        )
    chosen = config.blocks_of(vit)
    names = []
    for index in range(chosen[0], len(blocks(vit))):
        if index not in chosen:
            names += host_block(vit, index, PassingBlock, method="vqt")
            continue
        _check_attention(timm_vit, index)
        make = partial(
            QueriedBlock,
            queries_QD=draw_prompts(vit, config.prompts, generator),
            weights_Q=_weights(config.prompts, config, generator),
            dropout=config.dropout,
        )
        names += host_block(vit, index, make, method="vqt")
    norm = CombinedNorm(timm_vit.norm, _weights(1, config, generator))
    vit.set_submodule("norm", norm.to(timm_vit.cls_token.device).train(vit.training))
    return [*names, "norm.combine"]


def _weights(count: int, config: Config, generator: torch.Generator) -> Tensor:
    if config.init == "ones":
        return torch.ones(count)
    return nn.init.trunc_normal_(torch.empty(count), std=0.02, generator=generator)


def _check_attention(vit: Any, index: int) -> None:
    from timm.models.vision_transformer import Attention

    attention = vit.blocks[index].attn
    if type(attention) is not Attention or getattr(attention, "gate", None) is not None:
        raise ValueError(
            f"vqt: blocks.{index}.attn is a {type(attention).__name__}, allowed: timm's "
            "Attention without a gate"
        )


def count(config: Config, dims: Dims) -> int:
    """Compute k n d + k n + 1 for k blocks."""
    if not dims.prefix_tokens:
        raise ValueError("vqt: a ViT of 0 prefix tokens given, allowed: one with a class token")
    k = len(config.adapted_blocks(dims.depth))
    return k * config.prompts * (dims.width + 1) + 1
