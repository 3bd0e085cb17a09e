"""Text embeddings of class names by CLIP, with the optional package `open_clip_torch`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

Template = Callable[[str], str]


def imagenet_names() -> list[str]:
    """The 1,000 class names of ImageNet as OpenAI wrote them."""
    return list(_open_clip().IMAGENET_CLASSNAMES)


def openai_templates() -> list[Template]:
    """The 80 sentences that OpenAI put class names into."""
    return list(_open_clip().OPENAI_IMAGENET_TEMPLATES)


def templates_of(lines: Iterable[str]) -> list[Template]:
    """From sentences in which `{}` stands for the name; ValueError for one without it."""

    def template(line: str) -> Template:
        if line.count("{}") != 1:
            raise ValueError(f"template {line!r} given, allowed: a sentence with one {{}}")
        return lambda name: line.replace("{}", name)

    return [template(line) for line in lines]


@torch.no_grad()
def embeddings(
    names: Sequence[str],
    templates: Sequence[Template],
    model: str,
    pretrained: str,
    on_name: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """`weight` (C, D) and `projection` (D, d), as `adapters.text_head` takes them.

    Raises ImportError where the package is absent, ValueError for a model that has no such projection.
    """
    open_clip = _open_clip()
    clip, _, _ = open_clip.create_model_and_transforms(model, pretrained=pretrained)
    clip.eval()
    tokenize, projection_dD = open_clip.get_tokenizer(model), getattr(clip.visual, "proj", None)
    if not isinstance(projection_dD, Tensor):
        raise ValueError(f"model: {model} given, allowed: a CLIP whose image tower is a ViT")
    rows = []
    for name in names:
        each_TD = clip.encode_text(tokenize([template(name) for template in templates]))
        mean_D = functional.normalize(each_TD.float(), dim=-1).mean(0)
        rows.append(functional.normalize(mean_D, dim=-1))
        on_name()
    weight_CD = torch.stack(rows) * clip.logit_scale.exp().float()
    return {"weight": weight_CD, "projection": projection_dD.float().T.contiguous()}


def write(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write the file of a head; its SHA-256 (hex)."""
    data: bytes = safetensors.torch.save(dict(tensors))
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise ImportError("open_clip is not installed: pip install 'peftgrid[clip]'") from error
    return open_clip
