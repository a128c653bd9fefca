"""A reconstruction has no position, orientation or size of its own: what takes it to the true cameras."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

NEARLY_A_LINE = 1e-3
"""Ratio of the two largest singular values of the centres' covariance below which the cameras stand on a line (some 3 %
of its length beside it): the centres alone leave the turn about it open."""


@dataclass(frozen=True)
class Similarity:
    """``X_true = scale · R X + t``."""

    scale: float
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]

    def __call__(self, X: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return self.scale * X @ self.R.T + self.t


def align_cameras(
    centres: Float[Tensor, "N 3"],
    rotations: Float[Tensor, "N 3 3"],
    true_centres: Float[Tensor, "N 3"],
    true_rotations: Float[Tensor, "N 3 3"],
) -> Similarity | None:
    """The similarity that brings the camera centres nearest to the true ones, ``min Σ ‖s R c + t - c*‖²``.

    In closed form (S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI
    1991), as in the absolute trajectory error. Where the cameras stand on a line, R is the one that brings their
    orientations nearest to the true ones. None with fewer than two places of cameras. float64.

    Args:
        rotations: world to camera, ``X_camera = R X + t``.

    >>> c, I = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.eye(3).expand(3, 3, 3)
    >>> align_cameras(c, I, 2 * c + 1, I)
    Similarity(scale=2.0, ...)
    """
    centres, rotations, true_centres, true_rotations = (
        values.double() for values in (centres, rotations, true_centres, true_rotations)
    )
    if len(centres) < 2:
        return None
    middle, true_middle = centres.mean(dim=0), true_centres.mean(dim=0)
    here, there = centres - middle, true_centres - true_middle
    spread = here.square().sum()
    if not (spread > 0 and there.square().sum() > 0):
        return None
    covariance = there.T @ here
    singular_values = torch.linalg.svdvals(covariance)
    if singular_values[1] <= NEARLY_A_LINE * singular_values[0]:
        R = _nearest_rotation((true_rotations.mT @ rotations).sum(dim=0))
    else:
        R = _nearest_rotation(covariance)
    scale = ((R @ covariance.T).trace() / spread).item()
    if not scale > 0:
        return None
    return Similarity(scale, R, true_middle - scale * R @ middle)


def _nearest_rotation(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """The rotation R with the largest trace of ``Rᵀ matrix``."""
    U, _, Vt = torch.linalg.svd(matrix)
    sign = torch.ones(3, dtype=matrix.dtype)
    sign[2] = torch.det(U @ Vt).sign()
    return U * sign @ Vt
