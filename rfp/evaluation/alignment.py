"""A reconstruction has no position, orientation or size of its own: what takes it to the true cameras."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """``X_true = scale · R X + t``."""

    scale: float
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]

    def __call__(self, X: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return self.scale * X.double() @ self.R.T + self.t


def align_points(points: Float[Tensor, "N 3"], true_points: Float[Tensor, "N 3"]) -> Similarity | None:
    """The similarity that brings points nearest to the true ones, ``min Σ ‖s R c + t - c*‖²``, in float64.

    In closed form: S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, PAMI
    1991. Applied to camera centres, it is what the absolute trajectory error is measured after. None where the
    points of either kind are all at one place.

    >>> points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> found = align_points(points, 2 * points + 1)
    >>> round(found.scale, 6), found.t.round(decimals=6)
    (2.0, tensor([1., 1., 1.], dtype=torch.float64))
    """
    points, true_points = points.double(), true_points.double()
    if len(points) < 2:
        return None
    middle, true_middle = points.mean(dim=0), true_points.mean(dim=0)
    here, there = points - middle, true_points - true_middle
    covariance = there.T @ here
    spread = here.square().sum()
    R = _nearest_rotation(covariance)
    along = (R * covariance).sum()
    if not (spread > 0 and along > 0):
        return None
    scale = (along / spread).item()
    return Similarity(scale, R, true_middle - scale * R @ middle)


def align_rotations(R: Float[Tensor, "N 3 3"], R_true: Float[Tensor, "N 3 3"]) -> Float[Tensor, "3 3"]:
    """The turn A of the world that brings orientations of cameras nearest to the true ones, ``min Σ ‖R - R* A‖²``.

    The chordal mean (R. Hartley et al., Rotation averaging, IJCV 2013), in float64. The alignment of the centres would
    turn small cameras by large angles: those on a line leave the turn about it open.

    Args:
        R: world to camera, ``X_camera = R X + t``.
    """
    return _nearest_rotation((R_true.double().mT @ R.double()).sum(dim=0))


def _nearest_rotation(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """The rotation R with the largest trace of ``Rᵀ matrix``."""
    U, _, Vt = torch.linalg.svd(matrix)
    sign = torch.ones(3, dtype=matrix.dtype)
    sign[2] = torch.det(U @ Vt).sign()
    return U * sign @ Vt
