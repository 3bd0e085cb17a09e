"""AdaMSS: which rows of a frozen weight share an update, and the directions it starts from.

Everything is computed on the CPU in float32 and draws from a generator of its own, so the same
weight always gives the same groups, whatever the run's seed.

Shape suffixes: O rows of a weight, J its columns, the bias among them, R the leading singular
directions, G groups, n the rows of one group, r its rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PARTITION_SEED = 123456789
"""Of the first centres of every weight's groups: fixed, as the source's `random_state` is."""
ITERATIONS = 10
"""Most rounds of k-means; the source's number."""


def augmented(linear: nn.Linear) -> Tensor:
    """The frozen weight with the bias, where there is one, as its last column (O, J)."""
    columns = [linear.weight, *([] if linear.bias is None else [linear.bias.unsqueeze(1)])]
    weight_OJ = torch.cat(columns, dim=1).detach()
    return weight_OJ if weight_OJ.is_meta else weight_OJ.cpu().float()


def leading(weight_OJ: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the leading left singular vectors (O, R) and right ones (R, J); R is at most `rank`.

    The SVD is exact. Each pair is turned so that the largest entry of its right vector is positive:
    libraries differ in the sign. Of a weight without numbers, on the meta device, zeros.
    """
    if weight_OJ.is_meta:
        rank = min(rank, *weight_OJ.shape)
        return torch.zeros(len(weight_OJ), rank), torch.zeros(rank, weight_OJ.shape[1])
    u_OR, _, basis_RJ = torch.linalg.svd(weight_OJ, full_matrices=False)
    u_OR, basis_RJ = u_OR[:, :rank], basis_RJ[:rank]
    sign_R1 = _sign(basis_RJ)
    return u_OR * sign_R1.T, basis_RJ * sign_R1


def partition(rows_OR: Tensor, groups: int) -> Tensor:
    """Return the group (O,) of each row by k-means: one start, from different random rows.

    No group is ever empty, not even where rows are equal: the row that is farthest from its centre
    goes to a group that lost its last one. `groups` is at most O.
    """
    generator = torch.Generator().manual_seed(PARTITION_SEED)
    first_G = torch.randperm(len(rows_OR), generator=generator)[:groups]
    group_O = _nearest(rows_OR, rows_OR[first_G])
    for _ in range(ITERATIONS):
        sums_GR = rows_OR.new_zeros(groups, rows_OR.shape[1]).index_add(0, group_O, rows_OR)
        sizes_G = torch.bincount(group_O, minlength=groups)
        again_O = _nearest(rows_OR, sums_GR / sizes_G.unsqueeze(1))
        if torch.equal(again_O, group_O):
            break
        group_O = again_O
    return group_O


def directions(rows_nR: Tensor, rank: int, threshold: float | None) -> Tensor:
    """Return the leading right singular directions (r, R) of a group's rows.

    There are `rank` of them, or fewer where the group has fewer rows. With a threshold those whose
    squared singular value is not above `threshold` times the largest are left out, the first never.
    """
    _, value_k, right_kR = torch.linalg.svd(rows_nR, full_matrices=False)
    if threshold is not None:
        square_k = value_k.square()
        rank = min(rank, max(1, int((square_k > threshold * square_k[0]).sum())))
    right_rR: Tensor = right_kR[:rank].contiguous()
    return right_rR * _sign(right_rR)


def _nearest(rows_OR: Tensor, centres_GR: Tensor) -> Tensor:
    """The nearest centre (O,) of each row, of equals the first; every centre gets a row."""
    square_OG = (
        rows_OR.square().sum(1, keepdim=True)
        - 2 * rows_OR @ centres_GR.T
        + centres_GR.square().sum(1)
    )
    distance_O, group_O = square_OG.min(1)
    sizes_G = torch.bincount(group_O, minlength=len(centres_GR))
    for group in (sizes_G == 0).nonzero().flatten().tolist():
        spare_O = torch.where(sizes_G[group_O] > 1, distance_O, -torch.inf)
        row = int(spare_O.argmax())
        sizes_G[group_O[row]] -= 1
        sizes_G[group] = 1
        group_O[row] = group
    return group_O


def _sign(rows_RJ: Tensor) -> Tensor:
    """The sign (R, 1) of the largest entry of each row."""
    at_R1 = rows_RJ.abs().argmax(1, keepdim=True)
    return rows_RJ.gather(1, at_R1).sign()
