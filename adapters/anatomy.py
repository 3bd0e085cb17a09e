"""What the blocks of a timm ViT are made of: their Linears, by the names that suites use.

    attention   fused    `qkv`: one Linear, query, key and value one below the other
                split    `q_proj`, `k_proj`, `v_proj`: three Linears
                beside   a fused weight whose biases are parameters of the attention's own; timm
                         reads the weight and never calls the Linear, so no adapter can stand there
    mlp         plain    `fc1`, `fc2`
                packed   the same; `fc1` gives the gate and what it gates, of twice the hidden width
                gated    `fc1_g`, `fc1_x`, `fc2`: a Linear for each of the two

A target means the same on all of them: "qkv" is query, key and value, be they one Linear or three,
and "fc1" all that is in front of the MLP's activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

PROJECTIONS = ("q", "k", "v")
LINEARS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
"""The Linears of a block of the plain ViT, by the name that suites use for them."""
BIASES = ("bias", "q_bias", "v_bias")
"""What parameters are called that are biases."""
_PATHS = LINEARS | {
    **{name: f"attn.{name}_proj" for name in PROJECTIONS},
    **{name: f"mlp.{name}" for name in ("fc1_g", "fc1_x")},
}


class UnfitError(ValueError):
    """A method was asked to adapt what the blocks of this ViT do not have."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """How the blocks of a ViT are built; the default is the plain ViT's."""

    family: Literal["vit", "eva"] = "vit"
    """Whether blocks are timm's `Block`, or its `EvaBlock`, which takes rotary positions."""
    attention: Literal["fused", "split", "beside"] = "fused"
    mlp: Literal["plain", "packed", "gated"] = "plain"

    def linears_of(self, target: str) -> tuple[str, ...]:
        """The Linears, by name, that the target `target` (qkv, proj, fc1 or fc2) consists of.

        Raises UnfitError where no adapter can stand there.
        """
        if target == "qkv" and self.attention == "beside":
            raise UnfitError(
                "the fused qkv given on a ViT whose attention holds its biases apart from it and "
                "never calls it, allowed: proj, fc1 and fc2"
            )
        if target == "qkv" and self.attention == "split":
            return PROJECTIONS
        return ("fc1_g", "fc1_x") if (target, self.mlp) == ("fc1", "gated") else (target,)

    @property
    def linears(self) -> tuple[str, ...]:
        """The names of all Linears that adapters can stand on, in the order of a block."""
        able = [t for t in LINEARS if (t, self.attention) != ("qkv", "beside")]
        return tuple(name for target in able for name in self.linears_of(target))

    def sizes(self, width: int, mlp_width: int) -> dict[str, tuple[int, int]]:
        """Input and output features of each of `linears`; `mlp_width` is the inputs of fc2."""
        d, m = width, mlp_width
        every = dict.fromkeys(PROJECTIONS, (d, d)) | dict.fromkeys(("fc1_g", "fc1_x"), (d, m))
        every |= {"qkv": (d, 3 * d), "proj": (d, d), "fc2": (m, d)}
        every["fc1"] = (d, 2 * m if self.mlp == "packed" else m)
        return {name: every[name] for name in self.linears}


def anatomy_of_block(block: nn.Module) -> Anatomy:
    """The anatomy of a block of timm's, adapted or not; what is unknown counts as the plain ViT's."""
    # Here and not above, since timm takes a second to import and suites need only the names.
    from timm.layers import AttentionRope, GluMlp
    from timm.models.eva import EvaAttention

    attn: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    attention: Literal["fused", "split", "beside"] = "fused"
    if getattr(attn, "q_proj", None) is not None:
        attention = "split"
    elif getattr(attn, "q_bias", None) is not None:
        attention = "beside"
    return Anatomy(
        family="eva" if isinstance(attn, EvaAttention | AttentionRope) else "vit",
        attention=attention,
        mlp="gated" if hasattr(mlp, "fc1_g") else "packed" if isinstance(mlp, GluMlp) else "plain",
    )


def path_of(linear: str) -> str:
    """The path, in its block, of the Linear called `linear`."""
    return _PATHS[linear]
