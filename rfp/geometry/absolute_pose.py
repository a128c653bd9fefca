"""Poses of calibrated cameras from three points, batched, on the device.

With unit rays ``mᵢ`` through the image points, the distances ``dᵢ`` of the three points satisfy the law of cosines,

    Mᵢⱼ(d) = dᵢ² + dⱼ² - 2 dᵢ dⱼ mᵢ·mⱼ = ‖Xᵢ - Xⱼ‖²,

three quadrics (13, 23, 12 below are the pairs of points). Their combinations without a constant are a pencil of conics
in the ratios of the distances. As in M. Persson and K. Nordberg, Lambda Twist, ECCV 2018, and Y. Ding, J. Yang,
V. Larsson, C. Olsson, K. Åström, Revisiting the P3P Problem, CVPR 2023, a degenerate conic of the pencil, a pair of
lines, leads to the up to four ratios. A Newton step on the three laws of cosines takes off what rounding left.

Two things differ, and serve narrow fields of view and float32. The unknowns are d₃ and the *differences* d₁ - d₃ and
d₂ - d₃ in units of the angle between the rays, with ``1 - mᵢ·mⱼ = ½ ‖mᵢ - mⱼ‖²`` free of cancellation: all coefficients
are of order one for any angle. And two orthonormal combinations span the pencil, so that no order of the points is bad.

Inside, arrays are structures of arrays with the T samples **last**, as in ``five_point``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.conics import common_points, inner_product, orthogonal_pair
from rfp.geometry.samples import samples_last

_POLISHING_STEPS = 1  # without: 3 times as many poses lost in float32; a second one changes nothing
_FLAT = 1e-10
"""Squares of the height of a triangle beside its longest side, or of the angle of two rays beside the widest: where
they are smaller, a sample tells next to nothing about its pose."""


def three_point(
    X: Float[Tensor, "*B 3 3"], x: Float[Tensor, "*B 3 2"], *, solver_dtype: torch.dtype = torch.float64
) -> tuple[Float[Tensor, "*B 4 3 3"], Float[Tensor, "*B 4 3"], Bool[Tensor, "*B 4"]]:
    """Up to four poses (R, t) that see three points of space at three image points, and a mask of the solutions.

    ``(x, 1) ~ R @ X + t`` with positive depths, for points X of the world and normalised image points x. A sample
    without a solution, or a degenerate one (points on a line or repeated, equal rays), has no valid slot; under a
    false mask R and t are zero. Not differentiable.

    Args:
        solver_dtype: of the algebra inside; the result has the dtype of ``X``.

    M. Persson and K. Nordberg, Lambda Twist: an accurate fast robust perspective three point (P3P) solver, ECCV 2018;
    Y. Ding et al., Revisiting the P3P Problem, CVPR 2023.

    >>> R, t, valid = three_point(torch.rand(5, 3, 3), torch.rand(5, 3, 2))
    >>> R.shape, t.shape, valid.shape
    (torch.Size([5, 4, 3, 3]), torch.Size([5, 4, 3]), torch.Size([5, 4]))
    """
    batch = X.shape[:-2]
    points = samples_last(X, solver_dtype)
    image = samples_last(x, solver_dtype)
    pose, valid = three_point_planes(points, image)
    pose = pose.permute(2, 1, 0).to(X.dtype)
    R, t = pose[..., :9].unflatten(-1, (3, 3)), pose[..., 9:]
    return R.reshape(*batch, 4, 3, 3), t.reshape(*batch, 4, 3), valid.permute(1, 0).reshape(*batch, 4)


@torch.no_grad()
def three_point_planes(
    X: Float[Tensor, "3 3 T"], x: Float[Tensor, "3 2 T"]
) -> tuple[Float[Tensor, "12 4 T"], Bool[Tensor, "4 T"]]:
    """``three_point`` in the layout that it computes in: R row by row and t first, then slots, samples last."""
    farthest = torch.finfo(X.dtype).max ** 0.5 / 16  # squares must not overflow
    finite = (X.abs().flatten(0, 1).amax(dim=0) < farthest) & (x.abs().flatten(0, 1).amax(dim=0) < farthest)
    X, x = torch.where(finite, X, 0), torch.where(finite, x, 0)
    size, squared, frame, proper = _triangle(X)
    ray, versine, wide = _rays(x)
    angle = versine.amax(dim=0).sqrt()
    ratio, real = common_points(_conics(squared, versine, angle))
    distance, solved = _polished(_distances(ratio, squared, versine, angle), squared, versine)
    valid = real & solved & (finite & proper & wide)
    distance = torch.where(valid, distance, 1)
    pose = _poses(distance, ray, frame, X, size)
    return torch.where(valid, pose, pose.new_zeros(()), out=pose), valid


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """The cross product along the first dimension."""
    return torch.stack([a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))])


def _triangle(X: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The largest extent of each triangle; relative to it the squared sides 13, 23, 12; its frame; is it one at all?

    One that is flat is replaced by an equilateral one.
    """
    sides = torch.stack((X[0] - X[2], X[1] - X[2], X[0] - X[1]), dim=1)  # (3 coordinates, 3 sides, T)
    size = sides.abs().amax(dim=0).amax(dim=0)
    size = torch.where(size > 0, size, 1)
    sides = sides / size
    squared = inner_product(sides, sides)
    normal = _cross(sides[:, 0], sides[:, 1])
    area = inner_product(normal, normal)
    proper = area > _FLAT * squared.amax(dim=0).square()
    return size, torch.where(proper, squared, 1), torch.where(proper, _frame(sides[:, 0], normal), 0), proper


def _frame(first: Tensor, normal: Tensor) -> Tensor:
    """The right-handed frame along ``first`` and ``normal``, which are orthogonal: (3 coordinates, 3 axes, …, T)."""
    first = first / inner_product(first, first).sqrt_()
    normal = normal / inner_product(normal, normal).sqrt_()
    return torch.stack((first, _cross(normal, first), normal), dim=1)


def _rays(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rays (3 points, 3, T), ``1 - mᵢ·mⱼ`` for the pairs 13, 23, 12 without cancellation, and whether they differ.

    Versines of rays that do not differ are replaced by one.
    """
    inverse_length = (x[:, 0] * x[:, 0]).addcmul_(x[:, 1], x[:, 1]).add_(1).rsqrt_()
    ray = torch.stack((x[:, 0] * inverse_length, x[:, 1] * inverse_length, inverse_length), dim=1)
    difference = torch.stack((ray[0] - ray[2], ray[1] - ray[2], ray[0] - ray[1]), dim=1)
    versine = inner_product(difference, difference) * 0.5
    wide = versine.amin(dim=0) > _FLAT * versine.amax(dim=0)
    return ray, torch.where(wide, versine, 1), wide


def _conics(squared: Tensor, versine: Tensor, angle: Tensor) -> Tensor:
    """Two conics (6, 2, T) of the pencil, as entries xx, yy, ww, xy, xw, yw of symmetric matrices.

    In ``(x, y, w) = ((d₁ - d₃)/θ, (d₂ - d₃)/θ, d₃)``, θ the angle and ``h = (1 - m·m)/θ²``, the quadrics over θ² are
    ``M₁₃ = x² + 2 h₁₃ w (w + θ x)``, M₂₃ likewise and ``M₁₂ = (x - y)² + 2 h₁₂ (w + θ x)(w + θ y)``. Combinations
    without a constant have weights orthogonal to the squared sides.
    """
    weights = orthogonal_pair(squared / inner_product(squared, squared).sqrt())
    first, second, third = weights  # of the pairs 13, 23, 12, for both conics
    h = versine / (angle * angle)
    first_h, second_h, third_h = first * h[0], second * h[1], third * h[2]
    x_w, y_w = first_h + third_h, second_h + third_h
    return torch.stack(
        (
            *(first + third, second + third, (x_w + second_h) * 2),
            *(third * (versine[2] - 1), x_w * angle, y_w * angle),
        )
    )


def _distances(ratio: Tensor, squared: Tensor, versine: Tensor, angle: Tensor) -> Tensor:
    """Distances (3, 4, T) in the unit of the sides, d₃ > 0, from their ratios in the coordinates of the conics."""
    w = ratio[2]
    distance = torch.stack((torch.addcmul(w, ratio[0], angle), torch.addcmul(w, ratio[1], angle), w))
    total = torch.zeros_like(w)
    for i, j, versine_ij in zip((0, 1, 0), (2, 2, 1), versine):
        difference = distance[i] - distance[j]
        total.addcmul_(difference, difference).addcmul_(distance[i] * distance[j], versine_ij, value=2)
    return distance.mul_(torch.copysign((squared.sum(dim=0) / total).sqrt_(), w))


def _polished(distance: Tensor, squared: Tensor, versine: Tensor) -> tuple[Tensor, Tensor]:
    """Distances after Newton steps on the three laws of cosines, and whether these hold and all are positive."""
    for _ in range(_POLISHING_STEPS):
        d1, d2, d3 = distance
        difference, (r13, r23, r12) = _residuals(distance, squared, versine)
        # Half the derivatives of the sides 13, 23, 12 (a, b, c) along the distances that they know.
        a1, b2, c1 = _slopes(difference, versine, (d3, d3, d2), 1)
        a3, b3, c2 = _slopes(difference, versine, (d1, d2, d1), -1)
        # Cramer's rule, a3, b3 and c2 with their signs turned.
        b3c2, b2c1 = b3 * c2, b2 * c1
        mixed = (b2 * r12).addcmul_(c2, r23)
        inverse = (a1 * b3c2).addcmul_(a3, b2c1, value=-1).reciprocal_()
        distance = torch.stack(
            (
                torch.addcmul(d1, (r13 * b3c2).addcmul_(a3, mixed, value=-1), inverse),
                torch.addcmul(
                    d2, ((c1 * r13).addcmul_(a1, r12, value=-1) * b3).addcmul_(a3 * c1, r23, value=-1), inverse
                ),
                torch.addcmul(d3, (r13 * b2c1).addcmul_(a1, mixed, value=-1), inverse),
            )
        )
    _, residuals = _residuals(distance, squared, versine)
    tolerance = torch.finfo(distance.dtype).eps ** 0.5 * squared.amax(dim=0)
    return distance, (residuals.abs_().amax(dim=0) < tolerance) & (distance.amin(dim=0) > 0)


def _residuals(distance: Tensor, squared: Tensor, versine: Tensor) -> tuple[Tensor, Tensor]:
    """``dᵢ - dⱼ`` and ``½ (‖Xᵢ - Xⱼ‖² - Mᵢⱼ) = ½ (‖Xᵢ - Xⱼ‖² - (dᵢ - dⱼ)²) - (1 - mᵢ·mⱼ) dᵢ dⱼ`` for 13, 23, 12."""
    d1, d2, d3 = distance
    difference, product = torch.empty_like(distance), torch.empty_like(distance)
    for pair, (first, second) in enumerate(((d1, d3), (d2, d3), (d1, d2))):
        torch.sub(first, second, out=difference[pair])
        torch.mul(first, second, out=product[pair])
    residual = torch.addcmul(0.5 * squared[:, None], difference, difference, value=-0.5)
    return difference, residual.addcmul_(versine[:, None], product, value=-1)


def _slopes(difference: Tensor, versine: Tensor, others: tuple[Tensor, ...], sign: int) -> list[Tensor]:
    """``(dᵢ - dⱼ) ± (1 - mᵢ·mⱼ) d`` for the three sides."""
    return [torch.addcmul(x, v, d, value=sign) for x, v, d in zip(difference, versine, others)]


def _poses(distance: Tensor, ray: Tensor, frame: Tensor, X: Tensor, size: Tensor) -> Tensor:
    """R row by row and t (12, 4, T), which turn the frame of the triangle into that of the points on the rays."""
    Y = ray.transpose(0, 1)[:, :, None] * distance  # (3 coordinates, 3 points, 4, T)
    first = Y[:, 0] - Y[:, 2]
    turned = _frame(first, _cross(first, Y[:, 1] - Y[:, 2]))
    pose = distance.new_empty((12, *distance.shape[1:]))
    R, t = pose[:9].unflatten(0, (3, 3)), pose[9:]
    torch.mul(turned[:, None, 0], frame[None, :, 0, None], out=R)
    for axis in (1, 2):
        R.addcmul_(turned[:, None, axis], frame[None, :, axis, None])
    centre = ((X[0] + X[1]) + X[2]) / 3
    torch.mul(Y.sum(dim=1), size / 3, out=t)
    for axis in range(3):
        t.addcmul_(R[:, axis], centre[axis], value=-1)
    return pose
