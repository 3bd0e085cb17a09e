"""CLIP's classification head: image features compared with the embeddings of class names.

    projection    Linear(d -> D) without bias: CLIP's image projection
    L2            to length 1
    W x + b       W (C, D): one text embedding per class times CLIP's logit scale; b = 0 at the start

All of it is trained. It comes from a safetensors file with `projection` (D, d) and `weight` (C, D), which
`peftgrid text-head` makes from class names: templates filled with the name, encoded, scaled to length 1,
averaged, scaled to length 1 again, times exp(logit scale) (Radford et al., arXiv:2103.00020).
"""

from __future__ import annotations

import hashlib

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters.data._root import data_root
from adapters.text_embeddings import TextHeadConfig

PROJECTION = "head.projection.weight"
"""By this parameter a ViT has such a head."""


class TextHead(nn.Module):
    """The head; all zero until it is filled."""

    def __init__(self, width: int, dim: int, classes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, dim, bias=False)
        self.weight = nn.Parameter(torch.zeros(classes, dim))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x_BD: Tensor) -> Tensor:
        """Features (B, d) -> logits (B, C)."""
        return functional.linear(
            functional.normalize(self.projection(x_BD), dim=-1), self.weight, self.bias
        )


def place(vit: nn.Module, dim: int, classes: int) -> TextHead:
    """Give `vit` an empty head of this kind in place of its own."""
    width = int(vit.num_features)  # type: ignore[arg-type]
    vit.reset_classifier(classes)  # type: ignore[operator]
    vit.head = TextHead(width, dim, classes)
    return vit.head


@torch.no_grad()
def fill(head: TextHead, config: TextHeadConfig) -> None:
    """Set the head from its file.

    Raises ValueError where the file has another digest or does not fit, OSError where it is absent.
    """
    path = data_root() / config.file
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != config.digest:
        raise ValueError(f"text_head: {path} has digest {found}, declared is {config.digest}")
    tensors = safetensors.torch.load(data)
    for name, own in (("projection", head.projection.weight), ("weight", head.weight)):
        given = tensors.get(name)
        if given is None or given.shape != own.shape:
            shape = "no such tensor" if given is None else tuple(given.shape)
            raise ValueError(
                f"text_head: {path}: {name} {shape} given, allowed: {tuple(own.shape)}"
            )
        own.copy_(given)
