"""Fundamental matrices from eight points or more, batched, on the device.

R. Hartley, In defense of the eight-point algorithm, PAMI 1997; Hartley and Zisserman, Multiple View Geometry, 2nd
edition, algorithm 11.1. Every matrix is solved in float64 and without a factorisation that waits for the host.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.direct_linear import is_only_null_vector, normalized_matches, similarity
from rfp.geometry.linear_systems import product, smallest_eigenvector


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
    batch = x1.shape[:-2]
    points, centroid, scale, weights = normalized_matches(x1, x2, weight)
    normal = _normal_matrix(points[0], points[1], weights)
    f = smallest_eigenvector(normal)
    valid = ((weights > 0).sum(dim=-1) >= 8) & is_only_null_vector(normal.detach(), f.detach())
    F = nearest_of_rank_two(f.unflatten(-1, (3, 3)))
    T1, T2 = (similarity(centroid[image], 1 / scale[image]) for image in range(2))
    F = product(T2.mT, product(F, T1))
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


def _normal_matrix(x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
    """``Σ w a aᵀ`` (P, 9, 9) for the rows ``a = x2 ⊗ x1`` of ``x2ᵀ F x1 = 0``."""
    first, second = (torch.cat((x, torch.ones_like(x[..., :1])), dim=-1).mT for x in (x1, x2))  # (P, 3, N)
    rows = (second[:, :, None] * first[:, None]).flatten(1, 2)
    weighted = rows * weights[:, None]
    return torch.stack([(weighted[:, row, None] * rows).sum(dim=-1) for row in range(9)], dim=1)
