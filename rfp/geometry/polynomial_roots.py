"""Real roots of many polynomials at once, on their device, without eigenvalues.

Arrays are structures of arrays: coefficients or slots first, polynomials **last**, so that every operation runs over
long contiguous rows of independent polynomials.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Where the search ends on both sides: z¹⁰ must not overflow in the float32 tower.
_TOWER_END = 3e3
_ROOT_END = 1e8
# Below this a value is a root: dividing by it must neither overflow in float32 nor when squared.
_ZERO = 1e-15


def real_roots(
    coefficients: Float[Tensor, "coefficients T"],
) -> tuple[Float[Tensor, "degree T"], Bool[Tensor, "degree T"]]:
    """Real roots of T polynomials ``p(z) = Σ cᵢ zⁱ`` of one degree, and a mask of the slots that hold one.

    Between two neighbouring critical points a polynomial is monotone and has at most one root. So the real roots of
    p⁽ⁿ⁻¹⁾, …, p″, p′ and p are found in turn, each bracketed by those of the derivative before it: unlike a grid, this
    finds close pairs as well. Derivatives are handled in float32 (their roots need only separate those of the next);
    the roots themselves end in the dtype of the coefficients.

    Slots are in ascending order of the roots, with gaps; values under a false mask are finite. Roots of even
    multiplicity do not change the sign and may be missed. Not differentiable.
    """
    degree = coefficients.shape[0] - 1
    scale = coefficients.abs().amax(dim=0)
    usable = torch.isfinite(scale) & (scale > 0)
    scale = torch.where(usable, scale, torch.ones_like(scale))
    coefficients = torch.where(usable, coefficients / scale, torch.zeros_like(coefficients))

    single = coefficients.to(torch.float32)
    separators = single.new_zeros((0, single.shape[1]))
    for order in range(degree - 1, 0, -1):
        derivative = _derivative(single, order)
        lower, upper, rising, _ = _intervals(derivative, separators, _TOWER_END)
        separators = _laguerre(derivative, _middle(lower, upper), lower, upper, rising, max(3, 6 - order))

    lower, upper, rising, bracketed = _intervals(coefficients, separators.to(coefficients.dtype), _ROOT_END)
    start = _laguerre(single, _middle(lower, upper).float(), lower.float(), upper.float(), rising.float(), 5)
    start = torch.minimum(torch.maximum(start.to(lower.dtype), lower), upper)
    roots = _laguerre(coefficients, start, lower, upper, rising, 3)
    valid = bracketed & usable
    return torch.where(valid, roots, torch.zeros_like(roots)), valid


def _derivative(coefficients: Tensor, order: int) -> Tensor:
    """Coefficients of ``p⁽ᵏ⁾ / k!``: the binomials keep their size close to that of p."""
    rows = [coefficients[power] * math.comb(power, order) for power in range(order, coefficients.shape[0])]
    return torch.stack(rows)


def _middle(lower: Tensor, upper: Tensor) -> Tensor:
    """The point halfway in ``z / (1 + |z|)``, so that an interval to infinity has a middle, too."""
    s = (lower / (1 + lower.abs())).add_(upper / (1 + upper.abs())).mul_(0.5)
    return s.div_(1 - s.abs())


def _intervals(coefficients: Tensor, separators: Tensor, end: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lower and upper ends of the intervals between separators, +1 or -1 where p rises or falls, and sign changes."""
    edge = torch.full_like(coefficients[:1], end)
    z = torch.cat((-edge, separators, edge))
    degree = coefficients.shape[0] - 1
    value = torch.addcmul(coefficients[degree - 1], coefficients[degree], z)
    for power in range(degree - 2, -1, -1):
        value = torch.addcmul(coefficients[power], value, z)
    difference = value[1:] - value[:-1]
    rising = torch.copysign(torch.ones_like(difference), difference)
    return z[:-1], z[1:], rising, (value[:-1] < 0) != (value[1:] < 0)


def _laguerre(coefficients: Tensor, z: Tensor, lower: Tensor, upper: Tensor, rising: Tensor, iterations: int) -> Tensor:
    """Laguerre steps towards the root in each interval, never leaving a bracket that shrinks with every value.

    ``z ← z - d / (G ± √((d-1)² G² - d (d-1) p″/p))``, ``G = p′/p``. Cubic, and unlike Newton's a step from infinity or
    from a critical point is a good one: close pairs of roots are where Newton crawls. In an interval without a change
    of sign the result is some point of that interval.
    """
    degree = coefficients.shape[0] - 1
    for _ in range(iterations):
        value, slope, curvature = _horner(coefficients, z)
        oriented = value * rising
        inverse = torch.copysign(oriented.abs().clamp_min_(_ZERO), oriented).reciprocal_()  # 1 / |p|, signed
        ratio = (slope * inverse).mul_(rising).abs_()  # |G|
        below = oriented < 0
        lower, upper = torch.where(below, z, lower), torch.where(below, upper, z)
        if degree > 1:
            discriminant = (curvature * inverse).mul_(rising).mul_(-2 * degree * (degree - 1))
            discriminant.addcmul_(ratio, ratio, value=(degree - 1) ** 2)
            ratio += discriminant.clamp_min_(0).sqrt_()
        step = torch.copysign(ratio.clamp_min_(_ZERO).reciprocal_().mul_(degree), inverse)
        z = z - step
        z = torch.where((z < lower) | (z > upper), _middle(lower, upper), z)
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
