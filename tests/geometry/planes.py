"""Random views of planes, in float64, with their homographies."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.geometry.scenes import homogeneous, make_rotations, uniform, unit_vectors


@dataclass(frozen=True)
class PlaneViews:
    """n planes of N matches of normalised points, exact, in front of both cameras."""

    x1: Tensor
    x2: Tensor
    H: Tensor
    """At norm 1 with w > 0 at the points."""


def transfer(H: Tensor, x: Tensor) -> Tensor:
    """The points H x (*B, N, 2), whatever the sign of w."""
    mapped = homogeneous(x) @ H.mT
    return mapped[..., :2] / mapped[..., 2:]


def at_unit_norm(H: Tensor) -> Tensor:
    return H / torch.linalg.matrix_norm(H)[..., None, None]


def views_of_planes(n: int, count: int, seed: int, *, half: float = 0.7) -> PlaneViews:
    """``H = R + t mᵀ`` for cameras that turn by U(±0.5) about each axis and move up to half the plane's distance.

    m is the normal over the distance. Points are uniform in the first image. Planes of which a point lies behind the
    second camera or far outside its image are drawn again: about five are tried for each that is kept.
    """
    generator, tries = torch.Generator().manual_seed(seed), 12 * n + 50
    R = make_rotations(uniform(generator, tries, 3, low=-0.5, high=0.5))
    t = unit_vectors(tries, generator) * uniform(generator, tries, 1, low=0.0, high=0.5)
    towards_camera = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    normal = torch.nn.functional.normalize(0.9 * unit_vectors(tries, generator) + towards_camera, dim=-1)
    H = R + t[:, :, None] * normal[:, None]
    x1 = uniform(generator, tries, count, 2, low=-half, high=half)
    depth1, mapped = (homogeneous(x1) * normal[:, None]).sum(dim=-1), homogeneous(x1) @ H.mT
    x2 = mapped[..., :2] / mapped[..., 2:]
    seen = (depth1 > 0.05) & (mapped[..., 2] > 0.05) & (x2.abs() < 2 * half).all(dim=-1)
    kept = (seen.all(dim=1) & (torch.linalg.det(H) > 0.02)).nonzero()[:n, 0]
    assert len(kept) == n, "too few planes are seen by both cameras"
    return PlaneViews(x1[kept], x2[kept], at_unit_norm(H[kept]))


def in_pixels(views: PlaneViews, focal: float = 500.0, centre: tuple[float, float] = (400.0, 300.0)) -> PlaneViews:
    """The same views as a camera without distortion records them."""
    shift = torch.tensor(centre, dtype=torch.float64)
    K = torch.diag(torch.tensor([focal, focal, 1.0], dtype=torch.float64))
    K[:2, 2] = shift
    H = at_unit_norm(K @ views.H @ torch.linalg.inv(K))
    return PlaneViews(focal * views.x1 + shift, focal * views.x2 + shift, H)
