"""Random calibrated two-view scenes, in float64, with the truth."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TwoViews:
    """n scenes of N matches of normalised points, exact."""

    x1: Tensor
    x2: Tensor
    R: Tensor
    t: Tensor

    @property
    def E(self) -> Tensor:
        """``[t]× R`` at norm 1, written out here so that it does not come from the code under test."""
        zero = torch.zeros_like(self.t[..., 0])
        x, y, z = self.t.unbind(-1)
        cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
        E = cross @ self.R
        return E / torch.linalg.matrix_norm(E)[..., None, None]


def make_rotations(axis_angle: Tensor) -> Tensor:
    """exp([ω]×)."""
    zero = torch.zeros_like(axis_angle[..., 0])
    x, y, z = axis_angle.unbind(-1)
    return torch.matrix_exp(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3)))


def random_rotations(n: int, generator: torch.Generator) -> Tensor:
    """Uniform over SO(3): Q of a Gaussian matrix, with the signs fixed."""
    Q, upper = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator, dtype=torch.float64))
    Q = Q * torch.sign(torch.diagonal(upper, dim1=-2, dim2=-1))[:, None]
    return Q * torch.linalg.det(Q)[:, None, None]


def unit_vectors(n: int, generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=-1)


def uniform(generator: torch.Generator, *shape: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def homogeneous(x: Tensor) -> Tensor:
    return torch.cat((x, torch.ones_like(x[..., :1])), dim=-1)


def _first_accepted(accepted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices of the first ``count`` accepted points of each scene, and the scenes that have so many."""
    index = torch.argsort(accepted.double(), dim=1, descending=True, stable=True)[:, :count]
    return index, accepted.gather(1, index).all(dim=1)


def views_from_depths(
    n: int,
    count: int,
    seed: int,
    *,
    field_of_view_deg: float,
    depths: tuple[float, float],
    least_squared_sine: float = 0.0,
) -> TwoViews:
    """Any rotation, unit baseline; points inside both images, in front of both cameras, with enough parallax.

    At most n scenes: those where too few of the points tried are seen by both cameras are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    half, tries = math.tan(math.radians(field_of_view_deg) / 2), 60 * count
    R, t = random_rotations(n, generator), unit_vectors(n, generator)
    x1 = uniform(generator, n, tries, 2, low=-half, high=half)
    X1 = homogeneous(x1) * uniform(generator, n, tries, 1, low=depths[0], high=depths[1])
    X2 = X1 @ R.transpose(1, 2) + t[:, None]
    x2 = X2[..., :2] / X2[..., 2:]
    ray1, ray2 = X2 - t[:, None], X2
    cosine = torch.nn.functional.cosine_similarity(ray1, ray2, dim=-1)
    in_image = (x2.abs() < half).all(dim=-1) & (X2[..., 2] > depths[0]) & (X2[..., 2] < depths[1])
    index, enough = _first_accepted(in_image & (1 - cosine.square() > least_squared_sine), count)
    index = index[..., None].expand(-1, -1, 2)
    return TwoViews(x1.gather(1, index)[enough], x2.gather(1, index)[enough], R[enough], t[enough])


def views_of_a_box(n: int, count: int, seed: int, *, turn: float = 0.2) -> TwoViews:
    """Points in [-1, 1]² × [3, 7], rotation axis-angle U(±turn), unit baseline."""
    generator = torch.Generator().manual_seed(seed)
    R = make_rotations(uniform(generator, n, 3, low=-turn, high=turn))
    t = unit_vectors(n, generator)
    xy = uniform(generator, n, count, 2, low=-1, high=1)
    X1 = torch.cat((xy, uniform(generator, n, count, 1, low=3, high=7)), dim=-1)
    X2 = X1 @ R.transpose(1, 2) + t[:, None]
    return TwoViews(X1[..., :2] / X1[..., 2:], X2[..., :2] / X2[..., 2:], R, t)


def contaminate(
    x1: Tensor, x2: Tensor, seed: int, *, inlier_ratio: float, noise: float, extent: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy points, a share of matches replaced by uniform ones, and the mask of those that were left as inliers."""
    generator = torch.Generator().manual_seed(seed)
    n, count = x1.shape[:2]
    noisy1 = x1 + noise * torch.randn(x1.shape, generator=generator, dtype=x1.dtype)
    noisy2 = x2 + noise * torch.randn(x2.shape, generator=generator, dtype=x2.dtype)
    rank = torch.rand(n, count, generator=generator).argsort(dim=1)
    inlier = rank < round(inlier_ratio * count)
    wild = uniform(generator, n, count, 2, low=-extent, high=extent).to(x2.dtype)
    return noisy1, torch.where(inlier[..., None], noisy2, wild), inlier


def views_of_a_plane(n: int, count: int, seed: int, *, slope: float) -> TwoViews:
    """Points of the plane ``Z = 5 + slope X``, a camera that moves one unit sideways and turns by 0.1 about Y."""
    generator = torch.Generator().manual_seed(seed)
    R = make_rotations(torch.tensor([0.0, 0.1, 0.0], dtype=torch.float64)).expand(n, 3, 3)
    t = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(n, 3)
    X = uniform(generator, n, count, 1, low=-2, high=2)
    X1 = torch.cat((X, uniform(generator, n, count, 1, low=-1.5, high=1.5), 5 + slope * X), dim=-1)
    X2 = X1 @ R.mT + t[:, None]
    return TwoViews(X1[..., :2] / X1[..., 2:], X2[..., :2] / X2[..., 2:], R, t)
