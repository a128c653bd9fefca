"""Many small linear systems at once, on their device, without a check that waits for the host."""

import torch
from jaxtyping import Float
from torch import Tensor


def solve_symmetric(system: Float[Tensor, "*B n columns"], damping: float = 1e-6) -> Float[Tensor, "*B n"]:
    """Solutions of small symmetric positive systems, by an elimination that never waits for an error check.

    Args:
        system: the matrix, and its right-hand side as the last column.
        damping: relative to the diagonal; a row that vanishes yields zero.
    """
    size = system.shape[-2]
    rows = system.clone()
    rows.diagonal(dim1=-2, dim2=-1).mul_(1 + damping)
    inverse_pivots = []
    for k in range(size):
        pivot = rows[..., k, k]
        good = pivot > torch.finfo(pivot.dtype).tiny
        inverse = torch.where(good, 1 / torch.where(good, pivot, torch.ones_like(pivot)), torch.zeros_like(pivot))
        inverse_pivots.append(inverse)
        if k < size - 1:
            factors = rows[..., k + 1 :, k] * inverse[..., None]
            rows[..., k + 1 :, k:] -= factors[..., None] * rows[..., k, None, k:]
    solution = rows[..., -1].clone()
    for k in range(size - 1, -1, -1):
        solution[..., k] *= inverse_pivots[k]
        if k:
            solution[..., :k] -= rows[..., :k, k] * solution[..., k, None]
    return solution
