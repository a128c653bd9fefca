"""What direct linear transforms share: matches of any unit with weights, normalised, and null vectors that are alone.

R. Hartley, In defense of the eight-point algorithm, PAMI 1997. Everything in float64.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.householder import DEGENERATE
from rfp.geometry.linear_systems import smallest_eigenvector


def normalized_matches(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], weight: Float[Tensor, "*B N"] | None
) -> tuple[Float[Tensor, "2 P N 2"], Float[Tensor, "2 P 2"], Float[Tensor, "2 P"], Float[Tensor, "P N"]]:
    """Points of both images ``(x - centroid) / scale``, their weighted centroids and scales, and the weights.

    Root mean square distance √2 from the origin. A match that is not finite, or has no weight, gets weight zero.
    """
    points = torch.stack((x1, x2)).reshape(2, math.prod(x1.shape[:-2]), x1.shape[-2], 2).double()
    weights = torch.ones_like(points[0, ..., 0]) if weight is None else weight.reshape(points.shape[1:3]).double()
    usable = torch.isfinite(points).all(dim=-1).all(dim=0) & torch.isfinite(weights) & (weights > 0)
    points = torch.where(usable[..., None], points, torch.zeros_like(points))
    weights = torch.where(usable, weights, torch.zeros_like(weights))
    total = weights.sum(dim=-1)
    share = (weights / torch.where(total > 0, total, torch.ones_like(total))[:, None])[..., None]
    centroid = (points * share).sum(dim=-2)
    centred = points - centroid[..., None, :]
    variance = (centred.square() * share).sum(dim=(-2, -1)) / 2
    scale = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
    return centred / scale[..., None, None], centroid, scale, weights


def similarity(centre: Float[Tensor, "P 2"], scale: Float[Tensor, "P"]) -> Float[Tensor, "P 3 3"]:
    """``T`` in float64 with ``T (x, 1) = ((x - centre) scale, 1)``."""
    centre, scale = centre.double(), scale.double()
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    x, y = (-centre * scale[:, None]).unbind(-1)
    return torch.stack((scale, zero, x, zero, scale, y, zero, zero, one), dim=-1).unflatten(-1, (3, 3))


def is_only_null_vector(matrix: Float[Tensor, "P n n"], vector: Float[Tensor, "P n"]) -> Bool[Tensor, "P"]:
    """Whether the second smallest eigenvalue of a matrix is not zero, ``vector`` belonging to the smallest one."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    second = smallest_eigenvector(matrix + trace[:, None, None] * vector[:, :, None] * vector[:, None])
    eigenvalue = (second[:, :, None] * matrix * second[:, None]).sum(dim=(-2, -1))
    return eigenvalue > DEGENERATE * trace
