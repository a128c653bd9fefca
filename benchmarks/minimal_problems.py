"""Exact minimal problems with the truth, seeded, in float64: what a minimal solver is asked to invert.

Two views (five and seven points): any rotation, unit baseline, a field of view of 75 degrees, depths of 0.1 to 10, for
both cameras. Four points lie on a plane that a camera turned by up to 30 degrees sees as well. Three points of
space are seen by one camera of any pose.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from estimation_problems import rotation
from torch import Tensor
from torch.nn.functional import normalize

FIELD_OF_VIEW_DEG = 75.0
DEPTHS = (0.1, 10.0)
_CHUNK = 256
_TRIES = 60
"""Points tried for each that is needed: few are seen by two cameras that look anywhere."""


@dataclass(frozen=True)
class MinimalProblems:
    """P samples of n points: first (P, n, 2 or 3) and second (P, n, 2), and the true model (P, k) at norm 1."""

    first: Tensor
    second: Tensor
    truth: Tensor
    residual: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of candidates (P, c, k) at norm 1, on ``first`` and ``second``: how far they are from solving their sample."""


def two_views(count: int, num_points: int, *, seed: int = 0) -> MinimalProblems:
    """Essential matrices: of five points as they are, of seven as fundamental matrices of two cameras of f = 1."""
    residual = essential_residual if num_points == 5 else fundamental_residual
    return _until(count, seed, residual, lambda generator: _two_views(num_points, generator))


def planes(count: int, *, seed: int = 0) -> MinimalProblems:
    """Homographies of four points on a plane 1 to 5 away, tilted by up to 60 degrees, with a unit baseline."""
    return _until(count, seed, homography_residual, _planes)


def absolute_poses(count: int, *, seed: int = 0) -> MinimalProblems:
    """Poses (R row by row, t) of a camera that sees three points."""
    return _until(count, seed, absolute_residual, _absolute_poses)


def _until(count: int, seed: int, residual: Callable, draw: Callable[[torch.Generator], tuple]) -> MinimalProblems:
    """The first ``count`` of as many draws as it takes."""
    generator, parts, found = torch.Generator().manual_seed(seed), [], 0
    while found < count:
        parts.append(draw(generator))
        found += len(parts[-1][0])
    first, second, truth = (torch.cat(tensors)[:count] for tensors in zip(*parts, strict=True))
    return MinimalProblems(first, second, normalize(truth.flatten(1), dim=-1), residual)


def _uniform(generator: torch.Generator, *shape: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _directions(generator: torch.Generator, count: int) -> Tensor:
    return normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


def _rotations(generator: torch.Generator, count: int, most: float) -> Tensor:
    """About any axis by up to ``most`` radians."""
    return rotation(_directions(generator, count) * _uniform(generator, count, 1, low=0, high=most))


def _in_image(generator: torch.Generator, count: int, num_points: int) -> Tensor:
    half = math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
    return _uniform(generator, count, num_points, 2, low=-half, high=half)


def _homogeneous(x: Tensor) -> Tensor:
    return torch.cat((x, torch.ones_like(x[..., :1])), dim=-1)


def _cross_matrix(t: Tensor) -> Tensor:
    zero = torch.zeros_like(t[..., 0])
    x, y, z = t.unbind(-1)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


def _first_seen(x1: Tensor, X2: Tensor, depths: tuple[float, float], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first ``count`` points that the second camera sees, in both images, and the scenes that have so many."""
    half = math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
    x2 = X2[..., :2] / X2[..., 2:]
    seen = (X2[..., 2] > depths[0]) & (X2[..., 2] < depths[1]) & (x2.abs() < half).all(dim=-1)
    index = seen.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    enough = seen.gather(1, index).all(dim=1)
    index = index[..., None].expand(-1, -1, 2)
    return x1.gather(1, index), x2.gather(1, index), enough


def _two_views(num_points: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    R, t = _rotations(generator, _CHUNK, math.pi), _directions(generator, _CHUNK)
    x1 = _in_image(generator, _CHUNK, _TRIES * num_points)
    depth = _uniform(generator, _CHUNK, _TRIES * num_points, 1, low=DEPTHS[0], high=DEPTHS[1])
    x1, x2, enough = _first_seen(x1, depth * _homogeneous(x1) @ R.mT + t[:, None], DEPTHS, num_points)
    return x1[enough], x2[enough], (_cross_matrix(t) @ R)[enough]


def _planes(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    R, t = _rotations(generator, _CHUNK, math.radians(30)), _directions(generator, _CHUNK)
    tilt = math.tan(math.radians(60)) / math.sqrt(2)
    slope = _uniform(generator, _CHUNK, 2, low=-tilt, high=tilt)
    normal = normalize(_homogeneous(slope), dim=-1)
    distance = _uniform(generator, _CHUNK, 1, low=1, high=5)
    x1 = _in_image(generator, _CHUNK, 4 * _TRIES)
    depth = (distance / (_homogeneous(x1) @ normal[:, :, None])[..., 0])[..., None]
    X1 = depth * _homogeneous(x1)
    X2 = torch.where(depth > 0, X1 @ R.mT + t[:, None], torch.full_like(X1, -1))  # behind camera 1: not seen
    x1, x2, enough = _first_seen(x1, X2, (DEPTHS[0], math.inf), 4)
    return x1[enough], x2[enough], (R + t[:, :, None] * (normal / distance)[:, None])[enough]


def _absolute_poses(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    R, t = _rotations(generator, _CHUNK, math.pi), _directions(generator, _CHUNK)
    x = _in_image(generator, _CHUNK, 3)
    X_camera = _uniform(generator, _CHUNK, 3, 1, low=DEPTHS[0], high=DEPTHS[1]) * _homogeneous(x)
    return (X_camera - t[:, None]) @ R, x, torch.cat((R.flatten(1), t), dim=1)


def _epipolar(F: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """``max |x2ᵀ F x1|`` over the points of each sample."""
    lines = torch.einsum("pcij,pnj->pcni", F, _homogeneous(x1))
    return (lines * _homogeneous(x2)[:, None]).sum(dim=-1).abs().amax(dim=-1)


def essential_residual(candidates: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """The largest of ``x2ᵀ E x1``, ``det E`` and the entries of ``E Eᵀ E - ½ trace(E Eᵀ) E``."""
    E = candidates.unflatten(-1, (3, 3))
    gram = E @ E.mT
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
    constraint = (gram @ E - 0.5 * trace * E).abs().amax(dim=(-2, -1))
    return torch.stack((_epipolar(E, x1, x2), torch.linalg.det(E).abs(), constraint)).amax(dim=0)


def fundamental_residual(candidates: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """The larger of ``x2ᵀ F x1`` and ``det F``."""
    F = candidates.unflatten(-1, (3, 3))
    return torch.maximum(_epipolar(F, x1, x2), torch.linalg.det(F).abs())


def homography_residual(candidates: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """The largest entry of ``x2 × H x1``."""
    H = candidates.unflatten(-1, (3, 3))
    mapped = torch.einsum("pcij,pnj->pcni", H, _homogeneous(x1))
    return torch.linalg.cross(_homogeneous(x2)[:, None].expand_as(mapped), mapped).abs().amax(dim=(-2, -1))


def absolute_residual(candidates: Tensor, X: Tensor, x: Tensor) -> Tensor:
    """The largest distance of image points, infinite for a point behind the camera. (R, t) come at norm 1."""
    scale = candidates[..., :9].norm(dim=-1, keepdim=True) / math.sqrt(3)
    R, t = (candidates[..., :9] / scale).unflatten(-1, (3, 3)), candidates[..., 9:] / scale
    seen = torch.einsum("pcij,pnj->pcni", R, X) + t[:, :, None]
    distance = (seen[..., :2] / seen[..., 2:] - x[:, None]).abs().amax(dim=-1)
    return torch.where(seen[..., 2] > 0, distance, torch.inf).amax(dim=-1)
