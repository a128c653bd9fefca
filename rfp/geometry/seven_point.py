"""Fundamental matrices from seven points, batched, on the device.

R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 11.1.2. The null space comes from Householder
reflections, and the roots of the cubic from a fixed number of steps, so that nothing waits for the host.

Inside, arrays are structures of arrays with the T samples **last**, as in ``rfp.geometry.five_point``.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.cubic_roots import cubic_roots
from rfp.geometry.five_point import epipolar_rows
from rfp.geometry.householder import null_space
from rfp.geometry.samples import samples_last

# Six points of a plane leave a pencil of singular matrices alone, whose cubic vanishes: rounding leaves 1e-12 of it in
# float64, and general samples have 1e-5 and more.
_VANISHING = 1e-9


def seven_point(
    x1: Float[Tensor, "*B 7 2"], x2: Float[Tensor, "*B 7 2"], *, solver_dtype: torch.dtype = torch.float64
) -> tuple[Float[Tensor, "*B 3 3 3"], Bool[Tensor, "*B 3"]]:
    """Up to three fundamental matrices through seven matches, and a mask of those that are solutions.

    Each satisfies ``x2ᵀ F x1 = 0`` for the seven matches and ``det F = 0``, with ``‖F‖ = 1``. A degenerate sample
    (repeated points, six or more of them on a plane in space, four on a line, no translation) has no valid slot; values
    under a false mask are zero. Degenerate to the rounding of float64, that is: points that were rounded to float32, or
    a ``solver_dtype`` of float32, leave solutions of the rounding, which only other matches refute. Not differentiable.

    Args:
        x1: of the order of 1, as normalised points are: what is degenerate is told from rounding at that size.
        solver_dtype: of the algebra inside; the result has the dtype of ``x1``.

    R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, section 11.1.2.

    >>> F, valid = seven_point(torch.rand(4, 7, 2), torch.rand(4, 7, 2))
    >>> F.shape, valid.shape
    (torch.Size([4, 3, 3, 3]), torch.Size([4, 3]))
    """
    batch = x1.shape[:-2]
    first = samples_last(x1, solver_dtype)
    second = samples_last(x2, solver_dtype)
    F, valid = seven_point_planes(first, second)
    F = F.permute(2, 1, 0).to(x1.dtype)
    return F.reshape(*batch, 3, 3, 3), valid.permute(1, 0).reshape(*batch, 3)


@torch.no_grad()
def seven_point_planes(
    x1: Float[Tensor, "7 2 T"], x2: Float[Tensor, "7 2 T"]
) -> tuple[Float[Tensor, "9 3 T"], Bool[Tensor, "3 T"]]:
    """``seven_point`` in the layout that it computes in: row-major entries of F first, then slots, samples last."""
    finite = (torch.isfinite(x1) & torch.isfinite(x2)).all(dim=0).all(dim=0)
    x1 = torch.where(finite, x1, torch.zeros_like(x1))
    x2 = torch.where(finite, x2, torch.zeros_like(x2))
    basis, independent = null_space(epipolar_rows(x1, x2))
    coefficients, cosine, sine = _away_from_infinity(_determinant(basis))
    determined = coefficients.abs().amax(dim=0) > _VANISHING
    z, is_root = cubic_roots(coefficients)
    valid = is_root & (independent & finite & determined)
    scale = (z * z).add_(1).rsqrt_()
    a, b = torch.addcmul(cosine, z, sine, value=-1).mul_(scale), torch.addcmul(sine, z, cosine).mul_(scale)
    F = (a * basis[0][:, None]).addcmul_(b, basis[1][:, None])  # the basis is orthonormal: ‖F‖ = 1
    return torch.where(valid, F, torch.zeros_like(F)), valid


def _determinant(basis: Tensor) -> Tensor:
    """Coefficients (4, T) of ``det(a F1 + b F2) = Σ cᵢ a³⁻ⁱ bⁱ`` for the basis (2, 9, T).

    With the matrices of cofactors C1 and C2: c0 = det F1, c1 = ⟨C1, F2⟩, c2 = ⟨C2, F1⟩, c3 = det F2.
    """
    F = basis.unflatten(1, (3, 3))
    second, third = F.roll(-1, dims=1), F.roll(-2, dims=1)
    cofactors = second.roll(-1, dims=2) * third.roll(-2, dims=2)
    cofactors.addcmul_(second.roll(-2, dims=2), third.roll(-1, dims=2), value=-1)
    same, other = cofactors[:, 0] * F[:, 0], cofactors * F.flip(0)
    determinants = (same[:, 0] + same[:, 1]) + same[:, 2]
    mixed = (other[:, 0] + other[:, 1]) + other[:, 2]
    mixed = (mixed[:, 0] + mixed[:, 1]) + mixed[:, 2]
    return torch.stack((determinants[0], mixed[0], mixed[1], determinants[1]))


def _away_from_infinity(form: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (4, T), ascending in z, of the cubic form at ``(a, b) = (cos φ - z sin φ, sin φ + z cos φ)``.

    Of four angles φ, 45° apart, the one for which the form is largest at z = ∞. It has three roots at most, so one of
    the four directions is far from all of them: no root is at infinity or near it, whatever the basis is. Returns
    cos φ and sin φ as well.
    """
    half = math.sqrt(0.5)
    ends, middle = form[0::3], form[1:3]  # (c0, c3) and (c1, c2)
    p, q, r, s = ends.sum(dim=0), middle.sum(dim=0), ends[1] - ends[0], middle[1] - middle[0]
    diagonal = torch.stack((p + q, 3 * r + s, 3 * p - q, r - s)).mul_(half**3)  # a = (1 - z) / √2, b = (1 + z) / √2
    turned = diagonal[0::3].abs().amax(dim=0) > ends.abs().amax(dim=0)
    form = torch.where(turned, diagonal, form)
    one = torch.ones_like(p)
    cosine, sine = torch.where(turned, half * one, one), torch.where(turned, half * one, 0 * one)
    swapped = form[0].abs() > form[3].abs()  # a quarter turn: (a, b) becomes (-b, a)
    quarter = torch.stack((form[3], -form[2], form[1], -form[0]))
    form = torch.where(swapped, quarter, form)
    return form, torch.where(swapped, -sine, cosine), torch.where(swapped, cosine, sine)
