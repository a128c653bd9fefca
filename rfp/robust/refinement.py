"""Local optimisation of poses on the Sampson distance, with a smooth truncated weight."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.linear_systems import product, solve_symmetric
from rfp.geometry.pose import essential_from_pose
from rfp.robust.scoring import MatchMonomials, denominator_form, table_product


def refine_poses(
    R: Float[Tensor, "P L 3 3"],
    t: Float[Tensor, "P L 3"],
    matches: MatchMonomials,
    *,
    scales: tuple[float, ...],
) -> tuple[Float[Tensor, "P L 3 3"], Float[Tensor, "P L 3"]]:
    """Poses after one damped Gauss–Newton step for each entry of ``scales``, ‖t‖ = 1.

    Minimises ``Σ wᵢ ρ(eᵢ²)`` over rotation and direction of translation, e the Sampson distance in units of the
    threshold and ρ Tukey's biweight, ``ρ′ = (1 - e²/c²)²`` for e < c. Each step is a five-dimensional normal equation
    ``(Σ w ρ′ J Jᵀ + λ) δ = -Σ w ρ′ J e``, solved in closed form.

    Args:
        scales: c of each step, in units of the threshold; wide first.
    """
    for scale in scales:
        linearized = _linearized_errors(R, t, matches)
        weight = linearized[:, :, 5].square().mul_(-1 / (scale * scale)).add_(1).clamp_min_(0).square_()
        R, t = retract(R, t, _gauss_newton_step(linearized, weight.mul_(matches.weight[:, None])))
    return R, t


def tangent_basis(t: Float[Tensor, "*B 3"]) -> tuple[Float[Tensor, "*B 3"], Float[Tensor, "*B 3"]]:
    """Two unit vectors orthogonal to the unit vector ``t`` and to each other, without a branch.

    T. Duff et al., Building an orthonormal basis, revisited, JCGT 2017.
    """
    x, y, z = t.unbind(-1)
    sign = torch.copysign(torch.ones_like(z), z)
    a = -1 / (sign + z)
    b = x * y * a
    first = torch.stack((1 + sign * x * x * a, sign * b, -sign * x), dim=-1)
    return first, torch.stack((b, sign + y * y * a, -y), dim=-1)


def retract(
    R: Float[Tensor, "*B 3 3"], t: Float[Tensor, "*B 3"], step: Float[Tensor, "*B 5"]
) -> tuple[Float[Tensor, "*B 3 3"], Float[Tensor, "*B 3"]]:
    """The pose moved by ``step``: three for the rotation, from the left, and two for t in its tangent plane.

    The rotation is that of the quaternion ``(1, ω/2)`` normalised: exp to second order, and free of sine and cosine.
    """
    half = step[..., :3] * 0.5
    x, y, z = half.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    scale = 2 / (1 + xx + yy + zz)
    xy, xz, yz = x * y, x * z, y * z
    turn = torch.stack(
        (
            *(1 - scale * (yy + zz), scale * (xy - z), scale * (xz + y)),
            *(scale * (xy + z), 1 - scale * (xx + zz), scale * (yz - x)),
            *(scale * (xz - y), scale * (yz + x), 1 - scale * (xx + yy)),
        ),
        dim=-1,
    ).unflatten(-1, (3, 3))
    first, second = tangent_basis(t)
    moved = t + first * step[..., 3, None] + second * step[..., 4, None]
    norm = (moved[..., 0] * moved[..., 0] + moved[..., 1] * moved[..., 1] + moved[..., 2] * moved[..., 2]).sqrt()
    return product(turn, R), moved / norm[..., None]


def sampson_jacobian(
    R: Float[Tensor, "P L 3 3"], t: Float[Tensor, "P L 3"], matches: MatchMonomials
) -> tuple[Float[Tensor, "P L N"], Float[Tensor, "P L 5 N"]]:
    """Signed Sampson distances in units of the threshold, and their derivatives along the five steps of ``retract``."""
    linearized = _linearized_errors(R, t, matches)
    return linearized[:, :, 5], linearized[:, :, :5]


def _linearized_errors(R: Tensor, t: Tensor, matches: MatchMonomials) -> Float[Tensor, "P L 6 N"]:
    """The five derivatives, and below them the distances: the rows of the normal equations, in the place of one."""
    E = essential_from_pose(R, t)
    axes = torch.eye(3, dtype=R.dtype, device=R.device)
    turned = [essential_from_pose(essential_from_pose(R, axes[axis].expand_as(t)), t) for axis in range(3)]
    moved = [essential_from_pose(R, direction) for direction in tangent_basis(t)]
    derivatives_and_E = torch.stack((*turned, *moved, E), dim=2).flatten(-2)  # (P, L, 6, 9)
    candidates = R.shape[1]
    rows = derivatives_and_E.permute(0, 3, 1, 2)  # (P, 9, L, 6)
    form = denominator_form(rows[..., 5:].expand_as(rows), rows)
    numerator = table_product(rows.flatten(2), matches.epipolar).unflatten(1, (candidates, 6))
    denominator = table_product(form.flatten(2), matches.denominator).unflatten(1, (candidates, 6))
    inverse = denominator[:, :, 5].clamp_min(torch.finfo(R.dtype).tiny).rsqrt()
    # d(n q^-½) = q^-½ (dn - ½ n q^-1 dq), with dq = 2 form(E, dE)
    error_over_root = (numerator[:, :, 5] * inverse).mul_(inverse)
    numerator[:, :, :5] -= denominator[:, :, :5].mul_(error_over_root[:, :, None])
    return numerator.mul_(inverse[:, :, None])


def _gauss_newton_step(linearized: Tensor, weight: Tensor) -> Tensor:
    """``-(Σ w J Jᵀ + λ)⁻¹ Σ w J e`` (P, L, 5); zero where it is not finite."""
    # Tests hold this product to the same bits in every batch.
    normal = torch.matmul(linearized[:, :, :5] * weight[:, :, None], linearized.transpose(2, 3))
    step = -solve_symmetric(normal)
    return torch.where(torch.isfinite(step).all(dim=-1, keepdim=True), step, torch.zeros_like(step))
