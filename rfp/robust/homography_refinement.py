"""Sampson distances of matches to homographies, and Gauss–Newton steps on them, for many candidates at once.

A match (x1, x2) fits H where both components of ``ε = w x2 - (a, b)`` vanish, ``(a, b, w) = H (x1, 1)``. The Sampson
distance is the length of the shortest move of all four coordinates that mends ε to first order: with the 2×4 Jacobian
``J = ∂ε/∂(x1, x2)``, ``d² = εᵀ (J Jᵀ)⁻¹ ε`` (R. Hartley and A. Zisserman, Multiple View Geometry, section 4.2.6).

The transfer error in one image would be cheaper, but it counts the noise of the other image as often as H magnifies;
the symmetric one needs H⁻¹ and counts both. d² is close to what a maximum-likelihood estimate minimises, and the sister
of the Sampson distance for essential and fundamental matrices: of a translation it is |x2 - (a, b)|² / 2.

ε, w and ``J Jᵀ`` are polynomials of the match: two matrix products for all candidates and matches.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.linear_systems import solve_symmetric
from rfp.robust.scoring import match_monomials, table_product

# det(J Jᵀ) ≥ w⁴ is as small as this on the horizon of H only, for points of the size of one and ‖H‖ = 1.
_HORIZON = 1e-12


@dataclass(frozen=True)
class TransferMonomials:
    """What the distances need to know about N matches of each of P problems: p = (x, y, 1) is x1, (u, v) is x2."""

    products: Float[Tensor, "P 9 N"]
    """(u p, v p, p)."""
    squares: Float[Tensor, "P 11 N"]
    """x², x y, y², x, y, u², u v, v², u, v, 1."""
    weight: Float[Tensor, "P N"]
    inverse_error: Float[Tensor, "P"]
    """1 / max_error."""


def transfer_monomials(
    data: Float[Tensor, "P N 4"], weight: Float[Tensor, "P N"], max_error: Float[Tensor, "P"]
) -> TransferMonomials:
    """The tables of monomials. Masked matches come with weight zero and finite points of the size of one."""
    monomials = match_monomials(data[..., :2], data[..., 2:], weight, torch.ones_like(max_error))
    # No distance is known better than to the rounding of the points.
    inverse_error = 1 / max_error.clamp_min(torch.finfo(max_error.dtype).eps)
    return TransferMonomials(monomials.epipolar, monomials.denominator, weight, inverse_error)


@dataclass(frozen=True)
class TransferResiduals:
    """ε = (u, v) in units of the threshold, w, and ``J Jᵀ = (uu, uv; uv, vv)``."""

    u: Float[Tensor, "P C N"]
    v: Float[Tensor, "P C N"]
    w: Float[Tensor, "P C N"]
    uu: Float[Tensor, "P C N"]
    uv: Float[Tensor, "P C N"]
    vv: Float[Tensor, "P C N"]

    @property
    def determinant(self) -> Float[Tensor, "P C N"]:
        """Of ``J Jᵀ``, positive."""
        return (self.uu * self.vv).addcmul_(self.uv, self.uv, value=-1).clamp_min_(_HORIZON)


def transfer_residuals(H: Float[Tensor, "P 9 C"], matches: TransferMonomials) -> TransferResiduals:
    """What the distances are made of, for C candidates of each problem.

    With h1, h2, h3 the rows of H and k1, k2, k3 their first two entries: ``J = (u k3 - k1, w, 0; v k3 - k2, 0, w)``.
    """
    h1, h2, h3 = H.unflatten(1, (3, 3)).unbind(1)
    zero = torch.zeros_like(h1)
    u, v, w = torch.cat((h3, zero, -h1), 1), torch.cat((zero, h3, -h2), 1), torch.cat((zero, zero, h3), 1)
    unit = matches.inverse_error[:, None, None]
    residuals = table_product(torch.cat((u * unit, v * unit, w), dim=-1), matches.products)
    covariances = table_product(torch.cat(_covariance_coefficients(h1, h2, h3), dim=-1), matches.squares)
    return TransferResiduals(*(plane for table in (residuals, covariances) for plane in table.chunk(3, dim=1)))


def _covariance_coefficients(h1: Tensor, h2: Tensor, h3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the entries uu, uv, vv of ``J Jᵀ`` (P, 11, C), over x², x y, y², x, y, u², u v, v², u, v, 1."""
    a, b, c = h3.unbind(1)
    zero, w_squared = torch.zeros_like(a), (a * a, 2 * a * b, b * b, 2 * a * c, 2 * b * c)

    def dot(first: Tensor, second: Tensor) -> Tensor:
        return first[:, 0] * second[:, 0] + first[:, 1] * second[:, 1]

    k3k3, k3k1, k3k2 = dot(h3, h3), dot(h3, h1), dot(h3, h2)
    uu = torch.stack((*w_squared, k3k3, zero, zero, -2 * k3k1, zero, dot(h1, h1) + c * c), dim=1)
    uv = torch.stack((*(zero,) * 5, zero, k3k3, zero, -k3k2, -k3k1, dot(h1, h2)), dim=1)
    vv = torch.stack((*w_squared, zero, zero, k3k3, zero, -2 * k3k2, dot(h2, h2) + c * c), dim=1)
    return uu, uv, vv


def transfer_gains(
    H: Float[Tensor, "P 9 C"], matches: TransferMonomials, *, weighted: bool = True
) -> Float[Tensor, "P C N"]:
    """What each match adds to the MSAC score of a candidate, ``wᵢ max(0, 1 - dᵢ²)`` in front of the camera, w > 0."""
    residuals = transfer_residuals(H, matches)
    determinant, mixed = residuals.determinant, residuals.u * residuals.v
    squared = residuals.u.square_().mul_(residuals.vv).addcmul_(mixed, residuals.uv, value=-2)
    squared.addcmul_(residuals.v.square_(), residuals.uu)
    gain = squared.abs_().div_(determinant).clamp_max_(1).neg_().add_(1)  # rounding may have made it negative
    in_front = residuals.w.sign_().clamp_min_(0)  # a fraction of the time of where
    if weighted:
        in_front = in_front.mul_(matches.weight[:, None])
    return gain.mul_(in_front)


def refine_homographies(
    H: Float[Tensor, "P L 9"], matches: TransferMonomials, *, scales: tuple[float, ...]
) -> Float[Tensor, "P L 9"]:
    """Homographies after one damped Gauss–Newton step for each entry of ``scales``, ‖H‖ = 1.

    Minimises ``Σ wᵢ ρ(dᵢ²)`` over the eight parameters of H, d the Sampson distance in units of the threshold and ρ
    Tukey's biweight, ``ρ′ = (1 - d²/c²)²`` for d < c, as ``refine_poses`` does.

    Args:
        scales: c of each step, in units of the threshold; wide first.
    """
    for scale in scales:
        normal, gradient = normal_equations(H, matches, scale=scale)
        # Without noise H spans the null space. A length in its direction means nothing, and normalising drops it.
        diagonal = normal.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None] / 9
        system = normal + diagonal * H[..., :, None] * H[..., None, :]
        step = solve_symmetric(torch.cat((system, gradient[..., None]), dim=-1))
        moved = H - torch.where(torch.isfinite(step).all(dim=-1, keepdim=True), step, torch.zeros_like(step))
        norm = moved.square().sum(dim=-1, keepdim=True).sqrt()
        H = moved / torch.where(norm > 0, norm, torch.ones_like(norm))  # a zero stands for no candidate
    return H


def normal_equations(
    H: Float[Tensor, "P L 9"], matches: TransferMonomials, *, scale: float
) -> tuple[Float[Tensor, "P L 9 9"], Float[Tensor, "P L 9"]]:
    """The Gauss–Newton matrix and the gradient of ``½ Σ wᵢ ρ(dᵢ²)`` along the entries of H.

    With ``z = (J Jᵀ)⁻¹ ε`` the gradient is exact, ``½ ∂(d²) = zᵀ ∂ε - ½ zᵀ ∂(J Jᵀ) z``; the matrix is
    ``Σ w ρ′ (∂ε)ᵀ (J Jᵀ)⁻¹ ∂ε``. Both are sums over matches of a few factors times monomials: two matrix products.
    """
    factors, pulls = _factors(transfer_residuals(H.transpose(1, 2), matches), matches, scale)
    candidates, unit = H.shape[1], matches.inverse_error[:, None, None]
    moments = _sums(factors, candidates, matches.squares)
    along_u, along_v = (unit * sums for sums in _sums(pulls, candidates, matches.products).unbind(1)[:2])
    matrix = _gauss_newton_matrix(moments[:, :6]) * (unit * unit)[..., None]
    gradient = torch.stack((-along_u[..., 6:], -along_v[..., 6:], along_u[..., :3] + along_v[..., 3:6]), dim=2)
    return matrix, (gradient - _covariance_gradient(H.unflatten(-1, (3, 3)), moments[:, 6:9])).flatten(2)


def _factors(residuals: TransferResiduals, matches: TransferMonomials, scale: float) -> tuple[Tensor, Tensor]:
    """What multiplies the monomials of each match in the sums: nine planes (P, L, N), and two.

    First ``p pᵀ`` in the six blocks of the matrix, up to the signs of three, with ``∂ε = (-p, 0, u p; 0, -p, v p)``;
    then the products of z that multiply ``∂(J Jᵀ)``, and z itself, which multiplies ∂ε. The residuals are overwritten:
    in place, these passes over all matches take half the time.
    """
    u, v = matches.products[:, 2, None], matches.products[:, 5, None]
    inverse = residuals.determinant.reciprocal_()
    z_u = (residuals.vv * residuals.u).addcmul_(residuals.uv, residuals.v, value=-1).mul_(inverse)
    z_v = (residuals.uu * residuals.v).addcmul_(residuals.uv, residuals.u, value=-1).mul_(inverse)
    squared = residuals.u.mul_(z_u).addcmul_(residuals.v, z_v)
    weight = squared.abs_().mul_(-1 / (scale * scale)).add_(1).clamp_min_(0).square_()
    weight.mul_(residuals.w.sign_().clamp_min_(0)).mul_(matches.weight[:, None])
    inverse.mul_(weight)

    factors, pulls = (_rows(9, weight), _rows(2, weight))
    uu, uv, by_u, vv, by_v, by_both, z_uu, z_uv, z_vv = _planes(factors, 9, weight)
    pull_u, pull_v = _planes(pulls, 2, weight)
    uu.addcmul_(inverse, residuals.vv)
    uv.addcmul_(inverse, residuals.uv)
    vv.addcmul_(inverse, residuals.uu)
    by_u.addcmul_(uu, u).addcmul_(uv, v, value=-1)
    by_v.addcmul_(vv, v).addcmul_(uv, u, value=-1)
    by_both.addcmul_(by_u, u).addcmul_(by_v, v)
    pull_u.addcmul_(weight, z_u)
    pull_v.addcmul_(weight, z_v)
    z_uu.addcmul_(pull_u, z_u)
    z_uv.addcmul_(pull_u, z_v)
    z_vv.addcmul_(pull_v, z_v)
    return factors, pulls


def _rows(number: int, like: Float[Tensor, "P L N"]) -> Float[Tensor, "P rows N"]:
    """Zeros for so many planes, in a multiple of 16 rows.

    Every problem then starts at the same alignment as one alone. MKL rounds a product according to it.
    """
    problems, candidates, count = like.shape
    return like.new_zeros((problems, -(-number * candidates // 16) * 16, count))


def _planes(rows: Tensor, number: int, like: Tensor) -> tuple[Tensor, ...]:
    """The planes (P, L, N) in it."""
    return rows[:, : number * like.shape[1]].unflatten(1, (number, like.shape[1])).unbind(1)


def _sums(
    rows: Float[Tensor, "P rows N"], candidates: int, monomials: Float[Tensor, "P k N"]
) -> Float[Tensor, "P planes L k"]:
    """Sums over the matches of each plane times each monomial."""
    sums = table_product(rows.transpose(1, 2), monomials.transpose(1, 2))
    return sums[:, : sums.shape[1] // candidates * candidates].unflatten(1, (-1, candidates))


def _outer(moments: Float[Tensor, "*B 11"]) -> Float[Tensor, "*B 3 3"]:
    """``p pᵀ`` out of the moments of the monomials."""
    xx, xy, yy, x, y = moments[..., :5].unbind(-1)
    return torch.stack((xx, xy, x, xy, yy, y, x, y, moments[..., 10]), dim=-1).unflatten(-1, (3, 3))


def _gauss_newton_matrix(moments: Float[Tensor, "P 6 L 11"]) -> Float[Tensor, "P L 9 9"]:
    uu, uv, by_u, vv, by_v, by_both = _outer(moments).unbind(1)
    rows = ((uu, -uv, -by_u), (-uv, vv, -by_v), (-by_u, -by_v, by_both))
    return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)


def _covariance_gradient(H: Float[Tensor, "P L 3 3"], moments: Float[Tensor, "P 3 L 11"]) -> Float[Tensor, "P L 3 3"]:
    """``½ Σ zᵀ ∂(J Jᵀ) z`` from the moments of z zᵀ: of ``½ Σ |z_u (u k3 - k1) + z_v (v k3 - k2)|² + ½ Σ |z|² w²``."""
    uu, uv, vv = moments.unbind(1)
    u_squared, u_v, v_squared, u, v, one = range(5, 11)
    mixed_u, mixed_v = -uu[..., u] - uv[..., v], -uv[..., u] - vv[..., v]
    last = uu[..., u_squared] + 2 * uv[..., u_v] + vv[..., v_squared]
    entries = (uu[..., one], uv[..., one], mixed_u, uv[..., one], vv[..., one], mixed_v, mixed_u, mixed_v, last)
    form = torch.stack(entries, dim=-1).unflatten(-1, (3, 3))
    gradient = torch.zeros_like(H)
    gradient[..., :2] = (form[..., None] * H[..., None, :, :2]).sum(dim=-2)
    gradient[..., 2, :] += (_outer(uu + vv) * H[..., 2:, :]).sum(dim=-1)
    return gradient
