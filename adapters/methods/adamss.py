"""AdaMSS: rows of a weight that lie near each other share a tiny update in a common subspace.

    W^ = [W | b],  P: its leading right singular vectors,  I_k: groups of its rows
    y[I_k] = (W x + b)[I_k] + B_k A_k P [x, 1]

AdaMSS, NeurIPS 2025. The rows are grouped by k-means of their coordinates in the leading left
singular vectors. A_k (rank r_k, R) starts at the leading right singular directions of its group's
coordinates, B_k (rows n_k, r_k) at zero, so the adapted model starts as the base. P is frozen. The
bias moves too. With `asa` a run freezes subspaces on its way (`_asa.py`).

Different from the released code: the SVDs are exact and nothing depends on the run's seed (there a
randomised SVD, for A_k outside the seed), and P and the groups are saved with a model, so that it
loads where k-means would end elsewhere. A_k P is multiplied out once per forward, which is far
smaller than P x; nothing of the weight's size is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapters.folded import folded, is_folded
from adapters.method import Dims, Identity, LinearAdapter
from adapters.methods._asa import Allocation, Asa, Subspace
from adapters.methods._chosen_blocks import ChosenBlocks
from adapters.methods._subspaces import augmented, directions, leading, partition
from adapters.methods._whole_numbers import check_sizes
from adapters.qkv import (
    All,
    canonical_targets,
    part_shape,
    places,
    replace_targets,
    row_blocks,
    spread,
    target_shapes,
    targeted,
)

FAMILY = "subspace"
PAPER = "AdaMSS, NeurIPS 2025"
IDENTITY_AT_START: Identity = "exact"
MERGEABLE = True
SEMANTICS = 1
NO_HF_PEFT = "PEFT works out the row partition again and stores none"


@dataclass(frozen=True, kw_only=True)
class Config(ChosenBlocks):
    """Settings of AdaMSS."""

    total_rank: int = 100
    """R, the rows of P; no more than the weight has rows or columns."""
    subspaces: int = 5
    """K, the groups of each adapted matrix; no more than it has rows."""
    subspace_rank: int = 1
    """Rank of each update; no more than its group has rows."""
    dynamic_rank: float | None = None
    """Leave out directions of A_k at the start whose squared singular value is not above this
    fraction of the group's largest (the source: 0.1); None keeps `subspace_rank` of them."""
    targets: tuple[str, ...] | All = ("q", "v")
    """Projections named apart are matrices of their own; the fused qkv is one."""
    asa: Asa | None = None
    """Freeze subspaces while training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(
            total_rank=self.total_rank, subspaces=self.subspaces, subspace_rank=self.subspace_rank
        )
        if self.subspace_rank > self.total_rank:
            raise ValueError(
                f"subspace_rank: {self.subspace_rank} given, "
                f"allowed: at most total_rank ({self.total_rank})"
            )
        threshold = self.dynamic_rank
        if threshold is not None and (type(threshold) is not float or not 0 < threshold < 1):
            raise ValueError(f"dynamic_rank: {threshold!r} given, allowed: 0 < x < 1, or null")
        if threshold is not None and self.subspace_rank == 1:
            raise ValueError(
                f"dynamic_rank: {threshold} given with subspace_rank 1, which no group undercuts, "
                "allowed: null"
            )
        object.__setattr__(self, "targets", canonical_targets(self.targets))
        if self.asa is not None and not isinstance(self.asa, Asa):
            raise ValueError(f"asa: {self.asa!r} given, allowed: its settings, or null")


class AdamssLinear(LinearAdapter):
    """P and the groups of each adapted row block of one Linear, and A_k and B_k of each group.

    Groups are numbered over all row blocks. Shape suffixes beyond `LinearAdapter`'s: J the inputs
    and the bias, C the ranks of all groups together.
    """

    basis: Tensor
    groups: Tensor
    place: Tensor

    def __init__(self, base: nn.Linear, *, parts: tuple[str, ...], config: Config) -> None:
        super().__init__()
        p, o = part_shape(base.out_features, parts)
        self._groups_each = min(config.subspaces, o)
        basis: list[Tensor] = []
        groups: list[Tensor] = []
        start: list[Tensor] = []
        for weight_oJ in row_blocks(augmented(base), parts):
            u_oR, basis_RJ = leading(weight_oJ, config.total_rank)
            group_o = partition(u_oR, self._groups_each)
            start += [
                directions(u_oR[group_o == group], config.subspace_rank, config.dynamic_rank)
                for group in range(self._groups_each)
            ]
            groups.append(group_o + len(groups) * self._groups_each)
            basis.append(basis_RJ)
        self.A = nn.ParameterList(start)
        self.register_buffer("basis", torch.stack(basis))
        self.register_buffer("groups", spread(torch.stack(groups), parts, fill=-1))
        sizes = torch.bincount(torch.cat(groups), minlength=p * self._groups_each).tolist()
        self.B = nn.ParameterList(
            torch.zeros(n, len(a_rR)) for n, a_rR in zip(sizes, start, strict=True)
        )
        self.register_buffer("place", self._places(), persistent=False)

    def forward(self, x_BNI: Tensor, base: nn.Linear) -> Tensor:
        """Compute W x + b plus B_k A_k P [x, 1] in the rows of each group."""
        down_CJ, up_OC = self._factors()
        inputs = base.in_features
        shift_C = None if base.bias is None else down_CJ[:, inputs]
        if is_folded(x_BNI, base):
            bias_O = None if shift_C is None else base.bias + up_OC @ shift_C
            down_1CI, up_1OC = down_CJ[:, :inputs].unsqueeze(0), up_OC.unsqueeze(0)
            return folded(x_BNI, base, bias_O, down_1CI, up_1OC, ())
        h_BNC = nn.functional.linear(x_BNI, down_CJ[:, :inputs], shift_C)
        y_BNO: Tensor = base(x_BNI)
        return y_BNO + nn.functional.linear(h_BNC, up_OC).to(y_BNO.dtype)

    def merged(self, base: nn.Linear) -> tuple[Tensor, Tensor | None]:
        """Return W and b with their changes added."""
        down_CJ, up_OC = self._factors()
        change_OJ = up_OC @ down_CJ
        inputs = base.in_features
        bias_O = None if base.bias is None else base.bias + change_OJ[:, inputs]
        return base.weight + change_OJ[:, :inputs], bias_O

    def subspaces(self) -> list[list[Subspace]]:
        """(A_k, B_k) of every group, in a list for each row block."""
        pairs = list(zip(self.A, self.B, strict=True))
        each = self._groups_each
        return [pairs[at : at + each] for at in range(0, len(pairs), each)]

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Return all A_k P (C, J), one below the other, and all B_k in their places (O, C)."""
        each = self._groups_each
        a = list(self.A)
        down_CJ = torch.cat(
            [torch.cat(a[p * each : (p + 1) * each]) @ b for p, b in enumerate(self.basis)]
        )
        b_flat = torch.cat([b_nr.flatten() for b_nr in self.B])
        shape = (len(self.groups), len(down_CJ))
        up_OC = b_flat.new_zeros(shape[0] * shape[1]).scatter(0, self.place, b_flat)
        return down_CJ, up_OC.view(shape)

    def _places(self) -> Tensor:
        """Where the elements of all B_k in turn are in the flat matrix (O, C) of `_factors`."""
        ranks = [len(a_rR) for a_rR in self.A]
        places, column = [], 0
        for group, rank in enumerate(ranks):
            rows_n = (self.groups == group).nonzero().squeeze(1)
            columns_r = torch.arange(column, column + rank, device=rows_n.device)
            places.append((rows_n.unsqueeze(1) * sum(ranks) + columns_r).flatten())
            column += rank
        return torch.cat(places)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take over the saved groups too, which another machine's k-means may have made larger."""
        for name, parameter in self.named_parameters():
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != parameter.shape:
                parameter.data, parameter.grad = parameter.new_zeros(saved.shape), None
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.place = self._places()


def attach(vit: nn.Module, config: Config, _generator: torch.Generator) -> list[str]:
    """Put the updates on each target of the chosen blocks, and give the ViT ASA's state as `asa`."""
    chosen = config.blocks_of(vit)
    shapes = [(p, o) for p, o, _ in targeted(vit, config.targets, chosen[0])]
    _check_target(config, shapes, len(chosen))
    names = replace_targets(vit, config.targets, partial(AdamssLinear, config=config), chosen)
    if config.asa is not None:
        holders = [module for module in vit.modules() if isinstance(module, AdamssLinear)]
        device = next(vit.parameters()).device
        vit.add_module("asa", Allocation(config.asa, holders).to(device))
    return names


def count(config: Config, dims: Dims) -> int:
    """Sum r (K R + out) over every Linear or row block; R, K and r no more than there can be.

    An upper bound with `subspace_rank` above 1, since groups of fewer rows have a lower rank.
    """
    shapes = target_shapes(config.targets, dims)
    depth = len(config.adapted_blocks(dims.depth))
    _check_target(config, [(p, o) for p, o, _ in shapes], depth)
    total = 0
    for place, (p, o, i) in zip(places(config.targets, dims.anatomy), shapes, strict=True):
        total_rank = min(config.total_rank, o, i + (place.linear in dims.linear_biases))
        groups = min(config.subspaces, o)
        total += p * min(config.subspace_rank, total_rank) * (groups * total_rank + o)
    return depth * total


def count_is_exact(config: Config) -> bool:
    """Whether no group can have fewer rows than its rank."""
    return config.subspace_rank == 1


def check_run(config: Config, steps: int) -> None:
    """Raise ValueError where ASA's schedule does not fit a run of `steps` steps."""
    if config.asa is not None:
        config.asa.schedule(steps)


def _check_target(config: Config, shapes: list[tuple[int, int]], depth: int) -> None:
    """Raise ValueError where matrices of these (how many, rows) per block have too few subspaces."""
    if config.asa is not None:
        each = [min(config.subspaces, o) for p, o in shapes for _ in range(p)]
        config.asa.check_target(each * depth)
