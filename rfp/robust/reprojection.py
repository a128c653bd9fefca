"""Reprojection errors of many candidate poses at once, their MSAC gains, and local optimisation on them.

The residual ``(R X + t)₁ - u (R X + t)₃`` is linear in eight products of coordinates of a match, so that candidates
times tables of the matches are the errors times the depth: three matrix products, no division before the last step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.essential import orthonormalize
from rfp.geometry.linear_systems import solve_symmetric
from rfp.robust.scoring import table_product

# Depths below this share of the size of the scene take no part in a step: their derivatives would drown all others.
_LEAST_DEPTH = 1e-6


@dataclass(frozen=True)
class PointTables:
    """What scores and refinement need to know of N points of space and their images, for each of P problems."""

    point: Float[Tensor, "P 4 N"]
    """(X, 1)."""
    across: Float[Tensor, "P 8 N"]
    """``((X, 1), -u (X, 1))`` over the threshold: with the rows 1 and 3 of (R, t) the depth times the error along u."""
    down: Float[Tensor, "P 8 N"]
    """The same for v."""
    image: Float[Tensor, "P 2 N"]
    weight: Float[Tensor, "P N"]
    max_error: Float[Tensor, "P"]


def point_tables(
    X: Float[Tensor, "P N 3"], x: Float[Tensor, "P N 2"], weight: Float[Tensor, "P N"], max_error: Float[Tensor, "P"]
) -> PointTables:
    """The tables. Masked matches come with weight zero and finite points."""
    point = torch.cat((X, torch.ones_like(X[..., :1])), dim=-1).transpose(1, 2).contiguous()
    image = x.transpose(1, 2).contiguous()
    scaled = point / max_error[:, None, None]
    across, down = (torch.cat((scaled, -image[:, axis, None] * scaled), dim=1) for axis in range(2))
    return PointTables(point, across, down, image, weight, max_error)


def reprojection_gains(poses: Float[Tensor, "P 12 C"], tables: PointTables) -> Float[Tensor, "P C N"]:
    """``max(0, 1 - e²)`` of C poses (R row by row, t), e in units of the threshold; 0 for points behind the camera."""
    first, second, third = (
        torch.cat((poses[:, 3 * row : 3 * row + 3], poses[:, 9 + row, None]), 1) for row in range(3)
    )
    depth = table_product(third, tables.point)
    across = table_product(torch.cat((first, third), dim=1), tables.across)
    down = table_product(torch.cat((second, third), dim=1), tables.down)
    squared = across.square_().addcmul_(down, down)
    # (z² - r²) / z² where z > 0: behind the camera the numerator is -r² at most.
    depth.clamp_min_(0).square_()
    return squared.neg_().add_(depth).clamp_min_(0).div_(depth.clamp_min_(torch.finfo(depth.dtype).tiny))


def refine_absolute_poses(
    R: Float[Tensor, "P L 3 3"],
    t: Float[Tensor, "P L 3"],
    tables: PointTables,
    *,
    scales: tuple[float, ...],
) -> tuple[Float[Tensor, "P L 3 3"], Float[Tensor, "P L 3"]]:
    """Poses after one damped Gauss–Newton step for each entry of ``scales``.

    Minimises ``Σ wᵢ ρ(‖eᵢ‖²)``, e the reprojection error in units of the threshold and ρ Tukey's biweight, as
    ``refine_poses`` does, over rotation and translation: ``(Σ w ρ′ J Jᵀ + λ) δ = -Σ w ρ′ J e``, six equations.

    Args:
        scales: c of each step, in units of the threshold; wide first.
    """
    R = orthonormalize(R)
    for scale in scales:
        R, t = move(R, t, _gauss_newton_step(R, t, tables, scale))
    return R, t


def move(
    R: Float[Tensor, "*B 3 3"], t: Float[Tensor, "*B 3"], step: Float[Tensor, "*B 6"]
) -> tuple[Float[Tensor, "*B 3 3"], Float[Tensor, "*B 3"]]:
    """The pose moved by ``step``: three for the rotation, from the left, and three for t.

    The rotation is that of the quaternion ``(1, ω/2)`` normalised, as in ``retract``.
    """
    half = 0.5 * step[..., :3, None].expand_as(R)
    once = torch.linalg.cross(half, R, dim=-2)
    twice = torch.linalg.cross(half, once, dim=-2)
    x, y, z = step[..., :3].square().unbind(-1)
    scale = 2 / (1 + 0.25 * (x + y + z))
    return R + scale[..., None, None] * (once + twice), t + step[..., 3:]


def reprojection_jacobian(
    R: Float[Tensor, "P L 3 3"], t: Float[Tensor, "P L 3"], tables: PointTables
) -> tuple[Float[Tensor, "7 2 P L N"], Float[Tensor, "P L N"]]:
    """Derivatives of both errors along the six steps of ``move``, the errors as a seventh row, and the depths.

    In units of the threshold. With ``q = R X``, ``p = q + t``, ``(a, b) = p₁₂ / p₃``: ``∂p/∂ω = -[q]×`` and
    ``∂(a, b)/∂p = (I₂, -(a, b)ᵀ) / p₃``. Where the depth is not positive, all is finite and means nothing.
    """
    q = table_product(R.flatten(1, 2).transpose(1, 2), tables.point[:, :3]).unflatten(1, R.shape[1:3])
    depth = q[:, :, 2] + t[:, :, 2, None]
    inverse = torch.where(depth > _LEAST_DEPTH, depth, 1).reciprocal_()
    threshold = tables.max_error[:, None, None]
    slope = inverse / threshold
    rows = q.new_empty((7, 2, *depth.shape))
    across, down = rows[:, 0], rows[:, 1]
    for axis in range(2):
        projected = (q[:, :, axis] + t[:, :, axis, None]).mul_(inverse)
        torch.mul(projected, -slope, out=rows[5, axis])
        torch.sub(projected, tables.image[:, None, axis], out=rows[6, axis]).div_(threshold)
    q1, q2, q3 = q.unbind(2)
    depth_slope = q3 * slope
    torch.mul(across[5], q2, out=across[0])
    torch.addcmul(depth_slope, across[5], q1, value=-1, out=across[1])
    torch.mul(q2, -slope, out=across[2])
    torch.mul(down[5], q2, out=down[0]).sub_(depth_slope)
    torch.mul(down[5], -q1, out=down[1])
    torch.mul(q1, slope, out=down[2])
    for row, other in ((across[3], down[3]), (down[4], across[4])):
        row.copy_(slope)
        other.zero_()
    return rows, depth


def _gauss_newton_step(R: Tensor, t: Tensor, tables: PointTables, scale: float) -> Tensor:
    """``-(Σ w ρ′ J Jᵀ + λ)⁻¹ Σ w ρ′ J e`` (P, L, 6); zero where it is not finite."""
    rows, depth = reprojection_jacobian(R, t, tables)
    squared = (rows[6, 0] * rows[6, 0]).addcmul_(rows[6, 1], rows[6, 1])
    root = squared.mul_(-1 / (scale * scale)).add_(1).clamp_min_(0).mul_(tables.weight.sqrt()[:, None])  # √(w ρ′)
    root = torch.where(depth > _LEAST_DEPTH, root, 0)
    across, down = rows.mul_(root).flatten(2, 3).permute(1, 2, 0, 3)  # (P L, 7, N)
    # One small product a candidate: each rounds the same in every batch.
    normal = torch.bmm(across, across.mT).baddbmm_(down, down.mT)[:, :6]
    step = -solve_symmetric(normal).unflatten(0, R.shape[:2])
    return torch.where(torch.isfinite(step).all(dim=-1, keepdim=True), step, 0)
