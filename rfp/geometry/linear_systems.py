"""Many small linear systems at once, on their device, without a check that waits for the host."""

from functools import reduce

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


def product(A: Float[Tensor, "*B 3 3"], B: Float[Tensor, "*B 3 n"]) -> Float[Tensor, "*B 3 n"]:
    """``A @ B`` by columns of A: the same rounding wherever a problem stands in the batch."""
    columns = [A[..., k, None] * B[..., None, k, :] for k in range(3)]
    return columns[0] + (columns[1] + columns[2])


def smallest_eigenvector(matrix: Float[Tensor, "*B n n"], *, squarings: int = 7) -> Float[Tensor, "*B n"]:
    """Unit eigenvectors to the smallest eigenvalues of symmetric positive semi-definite matrices.

    Inverse iteration, ``M⁻ˢ v`` normalised, with s = 2^squarings steps at the price of a few: the inverse is squared
    again and again, so that no start vector can be orthogonal to the answer. A neighbour ``λ₂`` is left with a share of
    ``(λ₁ / λ₂)ˢ``. The largest component is positive. Differentiable, by the implicit function: where λ₁ is a double
    eigenvalue the vector is one of many, and its gradient finite but meaningless. A zero matrix yields a unit vector.

    G. Golub and C. Van Loan, Matrix Computations, section 8.2.2; gradient: J. Magnus, On differentiating eigenvalues
    and eigenvectors, 1985, theorem 1.

    >>> smallest_eigenvector(torch.diag(torch.arange(3.0, 0.0, -1.0))).round(decimals=6)
    tensor([0., 0., 1.])
    """
    planes = matrix.flatten(0, -3).movedim(0, -1) if matrix.ndim > 2 else matrix[..., None]
    vector = _inverse_iteration(planes.detach(), squarings)
    if torch.is_grad_enabled() and matrix.requires_grad:
        vector = _newton_step(planes, vector)
    return vector.movedim(-1, 0).reshape(matrix.shape[:-1])


@torch.no_grad()
def _inverse_iteration(matrix: Tensor, squarings: int) -> Tensor:
    """(n, T) from (n, n, T): matrices last, so that every operation runs over long contiguous rows."""
    size = matrix.shape[0]
    trace = _sum(matrix.diagonal().unbind(-1))
    scale = torch.where(trace > 0, 1 / torch.where(trace > 0, trace, torch.ones_like(trace)), torch.zeros_like(trace))
    shift = size * torch.finfo(matrix.dtype).eps  # keeps a singular matrix positive beyond its rounding
    shifted = matrix * scale
    shifted.diagonal().add_(shift)
    power = _inverse(shifted, shift)
    for _ in range(squarings):
        power = power / _sum(power.diagonal().unbind(-1))
        square = power[:, 0, None] * power[0]
        for k in range(1, size):
            square.addcmul_(power[:, k, None], power[k])
        power = square
    largest = power.diagonal().argmax(dim=-1)
    vector = power.gather(1, largest.expand(size, 1, -1))[:, 0]
    return vector / _sum(vector.square().unbind()).sqrt()


def _sum(terms: tuple[Tensor, ...]) -> Tensor:
    """The sum from the first to the last: ``Tensor.sum`` rounds according to the number of matrices beside it."""
    return reduce(torch.add, terms)


def _inverse(matrix: Tensor, least_pivot: float) -> Tensor:
    """Inverses of symmetric positive matrices (n, n, T), by sweeping out one row and column after the other."""
    matrix = matrix.clone()
    for k in range(matrix.shape[0]):
        inverse_pivot = 1 / matrix[k, k].clamp_min(least_pivot)
        column = matrix[:, k].clone()
        row = matrix[k] * inverse_pivot
        matrix.addcmul_(column[:, None], row, value=-1)
        matrix[k] = row
        matrix[:, k] = -column * inverse_pivot
        matrix[k, k] = inverse_pivot
    return matrix


def _newton_step(matrix: Tensor, vector: Tensor) -> Tensor:
    """v itself, bit for bit, with the derivative of ``v - (M - λ + τ v vᵀ)⁻¹ (M v - λ v)``: ``dv = -(M - λ)⁺ dM v``."""
    product = _sum((matrix * vector).unbind(1))
    eigenvalue = _sum((vector * product).unbind())
    with torch.no_grad():
        trace = _sum(matrix.diagonal().unbind(-1))
        deflated = matrix + trace * vector[:, None] * vector
        deflated.diagonal().sub_(eigenvalue[:, None])
        scale = torch.where(trace > 0, trace, torch.ones_like(trace))
        inverse = _inverse(deflated / scale, torch.finfo(matrix.dtype).eps) / scale
    step = _sum((inverse * (product - eigenvalue * vector)).unbind(1))
    return vector - (step - step.detach())
