"""The contract of a packaged backbone: what a file in `adapters/backbones/` offers.

* ``INFO``: a `BackboneInfo`, readable without building the model or having the weights;
* ``missing() -> str | None``: None where the weights are present, else the one command that gets them;
* ``create()``: the timm VisionTransformer or Eva with its weights, in float32 on the CPU, in eval mode.

Any other timm ViT goes through `adapters/backbones/_timm.py` by its timm name.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.method import Dims


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """What suites, plans and preprocessing need to know of a backbone."""

    name: str
    timm_name: str
    """The timm architecture; for a timm backbone the full name with its tag."""
    dims: Dims
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    weights_digest: str | None
    """`adapters.checkpoint.digest` of the weights without a head; None where only the tag is known."""
    semantics: int = 1
    """Bumped when the reader may give other tensors."""
    description: str = ""
    """What the weights are, honestly, with their licence."""
