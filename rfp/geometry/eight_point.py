"""Fundamental matrices from eight points or more, batched, on the device.

R. Hartley, In defense of the eight-point algorithm, PAMI 1997; Hartley and Zisserman, Multiple View Geometry, 2nd
edition, algorithm 11.1. Every matrix is solved in float64 and without a factorisation that waits for the host.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.householder import DEGENERATE
from rfp.geometry.linear_systems import smallest_eigenvector


def eight_point(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], weight: Float[Tensor, "*B N"] | None = None
) -> tuple[Float[Tensor, "*B 3 3"], Bool[Tensor, "*B"]]:
    """The fundamental matrix with the least algebraic error over N matches, and whether they determine one.

    ``min Σ wᵢ (x2ᵢᵀ F x1ᵢ)²`` with ``‖F‖ = 1`` between normalised points (centroid at the origin, root mean square
    distance √2 from it), then the nearest matrix of rank 2. The result is scaled to ``‖F‖ = 1`` in the units of the
    points, whatever they are, and has the dtype of ``x1``.

    Differentiable in points and weights where it is valid. Masked, with zeros: fewer than eight matches of positive
    weight, and matches that leave a family of matrices (of a plane, of a camera that only turns, repeated ones). A
    match that is not finite counts as one of weight zero.

    Args:
        weight: how much the squared error of each match counts, 1 by default.

    R. Hartley, In defense of the eight-point algorithm, PAMI 1997.

    >>> F, valid = eight_point(torch.rand(5, 20, 2), torch.rand(5, 20, 2))
    >>> F.shape, bool(valid.all())
    (torch.Size([5, 3, 3]), True)
    """
    batch, count = x1.shape[:-2], x1.shape[-2]
    points = torch.stack((x1, x2)).reshape(2, math.prod(batch), count, 2).double()
    weights = torch.ones_like(points[0, ..., 0]) if weight is None else weight.reshape(points.shape[1:3]).double()
    usable = torch.isfinite(points).all(dim=-1).all(dim=0) & torch.isfinite(weights) & (weights > 0)
    points = torch.where(usable[..., None], points, torch.zeros_like(points))
    weights = torch.where(usable, weights, torch.zeros_like(weights))
    (x1_normalized, x2_normalized), (T1, T2) = _normalized(points, weights)
    normal = _normal_matrix(x1_normalized, x2_normalized, weights)
    f = smallest_eigenvector(normal)
    valid = (usable.sum(dim=-1) >= 8) & _determined(normal.detach(), f.detach())
    F = nearest_of_rank_two(f.unflatten(-1, (3, 3)))
    F = (T2[..., None] * _product(F, T1)[..., None, :]).sum(dim=-3)  # T2ᵀ F T1
    F = torch.where(valid[:, None, None], F, torch.ones_like(F))
    F = F / F.square().sum(dim=(-2, -1), keepdim=True).sqrt()
    F = torch.where(valid[:, None, None], F, torch.zeros_like(F))
    return F.to(x1.dtype).reshape(*batch, 3, 3), valid.reshape(batch)


def nearest_of_rank_two(F: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """The singular matrices nearest to ``F`` in the Frobenius norm, ``F - F v vᵀ``.

    v is the right singular vector to the smallest singular value, the eigenvector of ``Fᵀ F`` to its smallest
    eigenvalue: what is subtracted is the last term of the singular value decomposition (Eckart and Young). The result
    maps v to zero to rounding, however well v is known.
    """
    v = smallest_eigenvector((F[..., :, :, None] * F[..., :, None, :]).sum(dim=-3))
    return F - (F * v[..., None, :]).sum(dim=-1)[..., None] * v[..., None, :]


def _normalized(points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Points (2, P, N, 2) about their weighted centroids, at root mean square distance √2, and the similarities T."""
    total = weights.sum(dim=-1)
    share = (weights / torch.where(total > 0, total, torch.ones_like(total))[:, None])[..., None]
    centroid = (points * share).sum(dim=-2, keepdim=True)
    variance = ((points - centroid).square() * share).sum(dim=(-2, -1)) / 2
    scale = torch.where(variance > 0, variance, torch.ones_like(variance)).rsqrt()[..., None, None]
    zero, one = torch.zeros_like(scale[..., 0]), torch.ones_like(scale[..., 0])
    row1, row2 = (torch.cat((scale[..., 0], zero), dim=-1), torch.cat((zero, scale[..., 0]), dim=-1))
    shift = -scale[..., 0] * centroid[..., 0, :]
    rows = (
        torch.cat((row1, shift[..., :1]), dim=-1),
        torch.cat((row2, shift[..., 1:]), dim=-1),
        torch.cat((zero, zero, one), dim=-1),
    )
    return (points - centroid) * scale, torch.stack(rows, dim=-2)


def _normal_matrix(x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
    """``Σ w a aᵀ`` (P, 9, 9) for the rows ``a = x2 ⊗ x1`` of ``x2ᵀ F x1 = 0``."""
    first, second = (torch.cat((x, torch.ones_like(x[..., :1])), dim=-1).mT for x in (x1, x2))  # (P, 3, N)
    rows = (second[:, :, None] * first[:, None]).flatten(1, 2)
    weighted = rows * weights[:, None]
    return torch.stack([(weighted[:, row, None] * rows).sum(dim=-1) for row in range(9)], dim=1)


def _determined(normal: Tensor, f: Tensor) -> Tensor:
    """Whether the null vector of the normal matrix is the only one: the second smallest eigenvalue is not zero."""
    trace = normal.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    second = smallest_eigenvector(normal + trace[:, None, None] * f[:, :, None] * f[:, None])
    eigenvalue = (second[:, :, None] * normal * second[:, None]).sum(dim=(-2, -1))
    return eigenvalue > DEGENERATE * trace


def _product(A: Tensor, B: Tensor) -> Tensor:
    """``A @ B`` for 3×3 matrices, rounded alike wherever a problem stands in the batch."""
    return (A[..., :, :, None] * B[..., None, :, :]).sum(dim=-2)
