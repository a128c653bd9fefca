"""Random calibrated cameras that see points of space, in float64, with the truth."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.geometry.scenes import homogeneous, make_rotations, random_rotations, uniform


@dataclass(frozen=True)
class SingleViews:
    """n cameras ``(x, 1) ~ R X + t`` and the N points that each sees, exact."""

    X: Tensor
    x: Tensor
    R: Tensor
    t: Tensor


def seen(X: Tensor, R: Tensor, t: Tensor) -> SingleViews:
    """The views of points (n, N, 3)."""
    Y = X @ R.mT + t[:, None]
    return SingleViews(X, Y[..., :2] / Y[..., 2:], R, t)


def views_of_depths(
    n: int, count: int, seed: int, *, field_of_view_deg: float = 75.0, depths: tuple[float, float] = (0.1, 10)
) -> SingleViews:
    """Any rotation, a camera somewhere around the origin, points uniform in the image and in depth."""
    generator = torch.Generator().manual_seed(seed)
    half = math.tan(math.radians(field_of_view_deg) / 2)
    R, t = random_rotations(n, generator), uniform(generator, n, 3, low=-1, high=1) * depths[1]
    x = uniform(generator, n, count, 2, low=-half, high=half)
    Y = homogeneous(x) * uniform(generator, n, count, 1, low=depths[0], high=depths[1])
    return SingleViews((Y - t[:, None]) @ R, x, R, t)


def nominal_views(count: int) -> SingleViews:
    """``count`` fixed points from cameras on a grid of 36 turns and 11 shifts, as COLMAP's tests move theirs."""
    X = uniform(torch.Generator().manual_seed(0), count, 3, low=-1, high=1)
    steps = torch.arange(6, dtype=torch.float64) * 0.2
    turns = torch.cartesian_prod(steps, steps)
    shifts = torch.arange(11, dtype=torch.float64) * 0.1
    turn, shift = turns.repeat_interleave(11, dim=0), shifts.repeat(36)
    R = make_rotations(torch.cat((turn, torch.zeros_like(turn[:, :1])), dim=1))
    t = torch.stack((shift, -shift, 3 + shift), dim=1)
    return seen(X.expand(len(R), -1, -1), R, t)
