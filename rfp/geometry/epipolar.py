"""Distances of matches to the epipolar geometry of an essential (or fundamental) matrix."""

import kornia.geometry.epipolar as kornia_epipolar
import torch
from jaxtyping import Float
from torch import Tensor

# The squared distance of a match that has no epipolar line (E = 0): far beyond any threshold, and finite.
NO_LINE = 1e6


def sampson_distance(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], E: Float[Tensor, "*B 3 3"]
) -> Float[Tensor, "*B N"]:
    """Squared Sampson distances ``(x2ᵀ E x1)² / (‖(E x1)₁₂‖² + ‖(Eᵀ x2)₁₂‖²)``, in the squared unit of the points.

    A match without an epipolar line is at distance ``NO_LINE``, so that the result is always finite. Hartley and
    Zisserman, eq. 11.9.
    """
    return _finite(kornia_epipolar.sampson_epipolar_distance(x1, x2, E, squared=True))


def symmetric_epipolar_distance(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], E: Float[Tensor, "*B 3 3"]
) -> Float[Tensor, "*B N"]:
    """Sums of the two squared distances between a point and the epipolar line of the other.

    ``(x2ᵀ E x1)² (1 / ‖(E x1)₁₂‖² + 1 / ‖(Eᵀ x2)₁₂‖²)``, always finite. Hartley and Zisserman, eq. 11.10.
    """
    return _finite(kornia_epipolar.symmetrical_epipolar_distance(x1, x2, E, squared=True))


def _finite(distance: Tensor) -> Tensor:
    return torch.where(torch.isfinite(distance), distance, torch.full_like(distance, NO_LINE))
