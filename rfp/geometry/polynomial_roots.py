"""Real roots of many polynomials at once, on their device, without eigenvalues.

Arrays are structures of arrays: coefficients or slots first, polynomials **last**, so that every operation runs over
long contiguous rows of independent polynomials.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.selection import select

# Where the search ends on both sides: z¹⁰ must not overflow in the float32 tower.
_TOWER_END = 3e3
_ROOT_END = 1e8


def real_roots(
    coefficients: Float[Tensor, "coefficients T"],
) -> tuple[Float[Tensor, "degree T"], Bool[Tensor, "degree T"]]:
    """Real roots of T polynomials ``p(z) = Σ cᵢ zⁱ`` of one degree, and a mask of the slots that hold one.

    Between two neighbouring critical points a polynomial is monotone and has at most one root. So the real roots of
    p⁽ⁿ⁻¹⁾, …, p″, p′ and p are found in turn, each bracketed by those of the derivative before it: unlike a grid, this
    finds close pairs as well. Derivatives are handled in float32 (their roots need only separate those of the next);
    the roots themselves end in the dtype of the coefficients.

    Slots are in ascending order of the roots, with gaps; values under a false mask are finite. Roots of even
    multiplicity do not change the sign and may be missed, and so may two that are closer than the derivative's root
    between them is known. Not differentiable.
    """
    degree = coefficients.shape[0] - 1
    scale = coefficients.abs().amax(dim=0)
    usable = torch.isfinite(scale) & (scale > 0)
    scale = torch.where(usable, scale, torch.ones_like(scale))
    coefficients = torch.where(usable, coefficients / scale, torch.zeros_like(coefficients))

    single, dtype = coefficients.to(torch.float32), coefficients.dtype
    separators = single.new_zeros((0, single.shape[1]))
    for order in range(degree - 1, 0, -1):
        derivative = _derivative(single, order)
        lower, upper, value = _intervals(derivative, separators, _TOWER_END)
        descent = _descent(value)
        separators = _laguerre(
            derivative, _between(lower, upper), lower, upper, descent, _tower_iterations(degree, order)
        )
        if order == 1:  # extrema rounded to float32 would lose the closest pairs of roots
            derivative = _derivative(coefficients, order)
            separators = _laguerre(
                derivative, separators.to(dtype), lower.to(dtype), upper.to(dtype), descent.to(dtype), 1
            )

    lower, upper, value = _intervals(coefficients, separators.to(dtype), _ROOT_END)
    descent = _descent(value)
    start = _laguerre(single, _between(lower, upper).float(), lower.float(), upper.float(), descent.float(), 5)
    start = start.to(dtype).clamp_(lower, upper)
    roots = _laguerre(coefficients, start, lower, upper, descent, 4)
    negative = value < 0
    valid = (negative[:-1] != negative[1:]) & usable
    return roots * valid, valid


def _derivative(coefficients: Tensor, order: int) -> Tensor:
    """Coefficients of ``p⁽ᵏ⁾ / k!``: the binomials keep their size close to that of p."""
    rows = [coefficients[power] * math.comb(power, order) for power in range(order, coefficients.shape[0])]
    return torch.stack(rows)


def _tower_iterations(degree: int, order: int) -> int:
    """Laguerre's step is exact up to degree 2; the last derivatives separate the roots, and are solved best.

    A root that its neighbours do not separate is missed: tests count these against NumPy's roots.
    """
    remaining_degree = degree - order
    if remaining_degree <= 2:
        return 1
    return 2 if remaining_degree <= degree // 2 else max(3, 6 - order)


def _between(lower: Tensor, upper: Tensor) -> Tensor:
    """A point inside each interval, the mean weighted by ``1 / (1 + |z|)``: an interval to infinity has one, too."""
    weight_upper, weight_lower = lower.abs().add_(1), upper.abs().add_(1)
    point = (lower * weight_lower).addcmul_(upper, weight_upper)
    return point.div_(weight_lower.add_(weight_upper))


def _intervals(coefficients: Tensor, separators: Tensor, end: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper ends of the intervals between separators, and p at these ends, one more than intervals."""
    edge = torch.full_like(coefficients[:1], end)
    z = torch.cat((-edge, separators, edge))
    degree = coefficients.shape[0] - 1
    value = torch.addcmul(coefficients[degree - 1], coefficients[degree], z)
    for power in range(degree - 2, -1, -1):
        value = torch.addcmul(coefficients[power], value, z)
    return z[:-1], z[1:], value


def _descent(value: Tensor) -> Tensor:
    """1 where p falls from one end of an interval to the other, and -1 where it rises."""
    return torch.copysign(value.new_ones(()), value[:-1] - value[1:])


def _laguerre(
    coefficients: Tensor, z: Tensor, lower: Tensor, upper: Tensor, descent: Tensor, iterations: int
) -> Tensor:
    """Laguerre steps towards the root in each interval, never leaving a bracket that shrinks with every value.

    ``z ← z - d n / (1 + √((d-1)² - d (d-1) n p″/p′))``, ``n = p/p′``. Cubic, and unlike Newton's a step from infinity
    or from a critical point is a good one: close pairs of roots are where Newton crawls. A step out of the bracket (or
    one that overflowed to NaN) is replaced by a point inside. Without a change of sign the result is some point of the
    interval.
    """
    degree = coefficients.shape[0] - 1
    largest = z.new_full((), torch.finfo(z.dtype).max)
    for _ in range(iterations):
        value, slope, curvature = _horner(coefficients, z)
        # ∞ where the root lies above z, -∞ where it lies below
        side = torch.copysign(largest, value * descent)
        lower = torch.maximum(lower, torch.minimum(z, side))
        upper = torch.minimum(upper, torch.maximum(z, side))
        inverse = slope.reciprocal()  # squares of p′ itself would overflow in float32
        newton = value * inverse
        root = (curvature * inverse).mul_(newton).mul_(-2 * degree * (degree - 1)).add_((degree - 1) ** 2)
        z = torch.addcdiv(z, newton, root.clamp_min_(0).sqrt_().add_(1), value=-degree).nan_to_num_(nan=torch.inf)
        z = select((z - lower).mul_(upper - z), z, _between(lower, upper))
    return z


def _horner(coefficients: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``p(z)``, ``p′(z)`` and ``½ p″(z)``."""
    degree = coefficients.shape[0] - 1
    slope = coefficients[degree].expand_as(z)
    value = torch.addcmul(coefficients[degree - 1], slope, z)
    curvature = torch.zeros_like(z)
    for power in range(degree - 2, -1, -1):
        curvature = slope if power == degree - 2 else torch.addcmul(slope, curvature, z)
        slope = torch.addcmul(value, slope, z)
        value = torch.addcmul(coefficients[power], value, z)
    return value, slope, curvature
