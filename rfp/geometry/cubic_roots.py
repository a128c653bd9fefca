"""Real roots of many cubics at once, on their device, in half the time of ``real_roots``, which takes any degree."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.conics import _outermost_root


def cubic_roots(coefficients: Float[Tensor, "4 T"]) -> tuple[Float[Tensor, "3 T"], Bool[Tensor, "3 T"]]:
    """Real roots of T polynomials ``c₀ + c₁ z + c₂ z² + c₃ z³``, and a mask of the slots that hold one.

    The root farthest from the inflection comes first, by Newton's steps from outside. It is divided out, which loses
    no digits as it is the outermost, and the other two are those of the quadratic that is left. Values under a false
    mask are finite. A double root may be missed. Not differentiable.

    The cubic coefficient must not be small beside the others: a root near infinity would be lost.
    """
    usable = torch.isfinite(coefficients).all(dim=0) & (coefficients[3] != 0)
    coefficients = torch.where(usable, coefficients, torch.ones_like(coefficients))
    constant, linear, quadratic, cubic = coefficients
    outermost = _outermost_root(constant, linear, quadratic, cubic)
    # c₃ z² + b z + c is what is left of the cubic.
    b = torch.addcmul(quadratic, cubic, outermost)
    c = torch.addcmul(linear, b, outermost)
    discriminant = torch.addcmul(b * b, cubic, c, value=-4)
    larger = (discriminant.clamp_min(0).sqrt().copysign_(b).add_(b)).mul_(-0.5)  # c₃ z without cancellation
    smaller = c / torch.where(larger != 0, larger, torch.ones_like(larger))
    z = torch.stack((outermost, larger / cubic, smaller))
    real = discriminant >= 0
    valid = torch.stack((torch.ones_like(real), real, real)) & usable & torch.isfinite(z)
    return torch.where(valid, z, torch.zeros_like(z)), valid
