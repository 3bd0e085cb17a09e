"""IA3: learned scales on keys, values and the activations inside the MLP; no rank, no added matrix.

    k <- l_k * k,   v <- l_v * v   (after the bias),   fc2(h) <- fc2(l_ff * h)

Liu et al. 2022, arXiv:2205.05638. `fc2` is scaled at its input, every other target at its output;
`targets: all` is the outputs of qkv, proj and fc1 and the inputs of fc2. The rows of the fused qkv
that are not targeted, by default the query's, keep their scale of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapters.inject import adapted_linears, replace_linear
from adapters.method import Dims, HfPeft, Identity, LinearAdapter
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.qkv import All, canonical_targets, part_shape, replace_targets, spread, target_shapes

FAMILY = "scaling"
PAPER = "arXiv:2205.05638"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of IA3."""

    targets: tuple[str, ...] | All = ("k", "v", "fc2")
    """What is scaled: `fc2` at its input, other Linears and row blocks of the qkv at their output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", canonical_targets(self.targets))


class OutputScale(LinearAdapter):
    """The scale (P, o) of a Linear's outputs."""

    no_decay = ("scale",)  # decay would pull the scales to 0 and not to 1

    def __init__(self, base: nn.Linear, *, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.parts = parts
        self.scale = nn.Parameter(torch.ones(part_shape(base.out_features, parts)))

    def _scale(self) -> Tensor:
        """Return the scale of every output (O)."""
        return spread(self.scale, self.parts, fill=1.0)

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute l * (W x + b)."""
        y_BNO: Tensor = base(x_BNI)
        return y_BNO * self._scale().to(y_BNO.dtype)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return diag(l) W and l * b."""
        scale_O = self._scale()
        bias_O = None if base.bias is None else scale_O * base.bias
        return scale_O.unsqueeze(1) * base.weight, bias_O


class InputScale(LinearAdapter):
    """The scale (I) of a Linear's inputs."""

    no_decay = ("scale",)

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(base.in_features))

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W (l * x) + b."""
        out: Tensor = base(x_BNI * self.scale.to(x_BNI.dtype))
        return out

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W diag(l) and b."""
        return base.weight * self.scale, base.bias


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Put the scales on the chosen blocks."""
    outputs = tuple(target for target in config.targets if target != "fc2")
    chosen = config.blocks_of(vit)
    names = replace_targets(vit, outputs, OutputScale, chosen)
    if "fc2" in config.targets:
        for block in chosen:
            names += replace_linear(vit, block, "fc2", InputScale)
    return names


def count(config: Config, dims: Dims) -> int:
    """Sum the outputs of each target and the inputs of fc2 over the chosen blocks."""
    outputs = tuple(target for target in config.targets if target != "fc2")
    inputs = dims.mlp_width if "fc2" in config.targets else 0
    k = len(config.adapted_blocks(dims.depth))
    return k * (inputs + sum(p * o for p, o, _ in target_shapes(outputs, dims)))


def hf_peft(vit: nn.Module, _config: Config) -> HfPeft:
    """HF's ia3_l: (O, 1) with ones for rows that are not adapted, or (1, I) on fc2's input."""
    outputs = {
        f"model.{path}.ia3_l": spread(adapter.scale, adapter.parts, fill=1.0).unsqueeze(1)
        for path, _, adapter in adapted_linears(vit, OutputScale)
    }
    inputs = {path: adapter.scale for path, _, adapter in adapted_linears(vit, InputScale)}
    settings = {"peft_type": "IA3", "feedforward_modules": list(inputs)}
    tensors = {f"model.{path}.ia3_l": scale.unsqueeze(0) for path, scale in inputs.items()}
    return settings, outputs | tensors
