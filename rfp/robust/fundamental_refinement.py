"""Local optimisation of fundamental matrices on the Sampson distance, on the manifold of rank 2 and norm 1.

F is held as nine numbers. The tangent space at F is what is orthogonal to F itself (the norm) and to its matrix of
cofactors, which is the gradient of ``det F`` (the rank): seven dimensions, and no factorisation is needed to know them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.linear_systems import solve_symmetric
from rfp.robust.scoring import MatchMonomials, table_product


def refine_fundamental(
    F: Float[Tensor, "P L 9"], matches: MatchMonomials, *, scales: tuple[float, ...]
) -> Float[Tensor, "P L 9"]:
    """Fundamental matrices, of rank 2 and norm 1, after one damped Gauss–Newton step for each entry of ``scales``.

    Minimises ``Σ wᵢ ρ(eᵢ²)``, e the Sampson distance in units of the threshold and ρ Tukey's biweight, as
    ``refine_poses`` does. Each step solves ``(Σ w ρ′ J Jᵀ + λ) δ = -Σ w ρ′ J e`` in the tangent space, the normal
    matrix projected to it and filled up along the two normals.

    Args:
        scales: c of each step, in units of the threshold; wide first.
    """
    F = retract(F, torch.zeros_like(F))
    for scale in scales:
        error, jacobian = sampson_jacobian(F, matches)
        weight = (1 - error.square() / (scale * scale)).clamp_min_(0).square_() * matches.weight[:, None]
        F = retract(F, _gauss_newton_step(F, error, jacobian, weight))
    return F


def cofactors(F: Float[Tensor, "*B 9"]) -> Float[Tensor, "*B 9"]:
    """The matrix of cofactors, row by row: the derivative of ``det F``; where F is singular, ``e2 e1ᵀ`` up to scale."""
    rows = F.unflatten(-1, (3, 3))
    return torch.linalg.cross(rows.roll(-1, dims=-2), rows.roll(-2, dims=-2), dim=-1).flatten(-2)


def retract(F: Float[Tensor, "*B 9"], step: Float[Tensor, "*B 9"]) -> Float[Tensor, "*B 9"]:
    """``F + step`` brought back to norm 1 and rank 2: Newton's steps on ``det F = 0`` along its gradient.

    ``F ← F - det F / ‖C‖² C`` with the cofactors C. A step in the tangent space leaves a determinant of second order,
    so that the first Newton step leaves one of fourth order, and the next none.
    """
    F = _normalized(F + step)
    for _ in range(2):
        gradient = cofactors(F)
        determinant = (gradient[..., :3] * F[..., :3]).sum(dim=-1, keepdim=True)
        squared = gradient.square().sum(dim=-1, keepdim=True).clamp_min(torch.finfo(F.dtype).tiny)
        F = _normalized(F - determinant / squared * gradient)
    return F


def _normalized(F: Tensor) -> Tensor:
    norm = F.square().sum(dim=-1, keepdim=True).sqrt()
    return F / torch.where(norm > 0, norm, torch.ones_like(norm))


def sampson_jacobian(
    F: Float[Tensor, "P L 9"], matches: MatchMonomials
) -> tuple[Float[Tensor, "P L N"], Float[Tensor, "P L 9 N"]]:
    """Signed Sampson distances in units of the threshold, and their derivatives along the nine entries of F.

    With ``r = x2ᵀ F x1``, the epipolar lines ``l2 = F x1`` and ``l1 = Fᵀ x2`` and ``q = τ² (‖l2₁₂‖² + ‖l1₁₂‖²)``:
    ``e = r q^-½`` and ``∂e/∂F = q^-½ x2 x1ᵀ - e/q τ² (l2₁₂ x1ᵀ + x2 l1₁₂ᵀ)``.
    """
    candidates = F.shape[1]
    rows = F.transpose(1, 2).unflatten(1, (3, 3))  # (P, 3, 3, L)
    residual = table_product(F.transpose(1, 2), matches.epipolar)
    line2 = table_product(rows[:, :2].permute(0, 2, 3, 1).flatten(2), matches.ray1).unflatten(1, (candidates, 2))
    line1 = table_product(rows[:, :, :2].transpose(2, 3).flatten(2), matches.ray2).unflatten(1, (candidates, 2))
    squared = line2[:, :, 0].square() + line2[:, :, 1].square()
    squared += line1[:, :, 0].square() + line1[:, :, 1].square()
    threshold = (matches.max_error * matches.max_error)[:, None, None]
    inverse = (squared * threshold).clamp_min_(torch.finfo(F.dtype).tiny).rsqrt_()
    error = residual * inverse
    correction = (error * inverse.square() * threshold)[:, :, None]
    jacobian = (matches.epipolar[:, None] * inverse[:, :, None]).unflatten(2, (3, 3))
    jacobian[:, :, :2].addcmul_((correction * line2)[:, :, :, None], matches.ray1[:, None, None], value=-1)
    jacobian[:, :, :, :2].addcmul_((correction * line1)[:, :, None], matches.ray2[:, None, :, None], value=-1)
    return error, jacobian.flatten(2, 3)


def _gauss_newton_step(F: Tensor, error: Tensor, jacobian: Tensor, weight: Tensor) -> Tensor:
    """``-(Σ w J Jᵀ + λ)⁻¹ Σ w J e`` (P, L, 9) in the tangent space; zero where it is not finite."""
    augmented = torch.cat((jacobian, error[:, :, None]), dim=2)
    weighted = jacobian * weight[:, :, None]
    normal = F.new_zeros((*F.shape[:2], 9, 10))
    for row in range(9):  # row by row along the matches: a sum over the last dimension rounds the same in every batch
        products = (weighted[:, :, row, None] * augmented[:, :, row:]).sum(dim=-1)
        normal[:, :, row, row:] = products
        normal[:, :, row + 1 :, row] = products[:, :, 1:-1]
    step = -solve_symmetric(_in_tangent_space(normal, F))
    return torch.where(torch.isfinite(step).all(dim=-1, keepdim=True), step, torch.zeros_like(step))


def _in_tangent_space(normal: Tensor, F: Tensor) -> Tensor:
    """The normal equations (P, L, 9, 10) projected to the tangent space at F, regular along its two normals.

    The distance does not depend on the norm: the matrix has no part along F. That along the cofactors is cut out.
    """
    trace = normal.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
    gradient = _normalized(cofactors(F))
    along = (gradient[..., None] * normal).sum(dim=-2)  # (P, L, 10)
    normal = normal - gradient[..., :, None] * along[..., None, :]
    across = (normal[..., :9] * gradient[..., None, :]).sum(dim=-1)
    matrix = normal[..., :9] - across[..., :, None] * gradient[..., None, :]
    for direction in (gradient, F):
        matrix = matrix + trace / 9 * direction[..., :, None] * direction[..., None, :]
    return torch.cat((matrix, normal[..., 9:]), dim=-1)
