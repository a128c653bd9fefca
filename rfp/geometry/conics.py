"""Common points of many pairs of conics at once, on their device.

A real root of a cubic finds a degenerate conic among the combinations of the two, a pair of lines, and each line meets
another combination in two points (J. Richter-Gebert, Perspectives on Projective Geometry, 2011, chapter 11). Every
real root will do in exact arithmetic: of four real points, all three roots give real lines; of two, the only real root
does. The outermost root is taken, the one best separated from the others.

Arrays are structures of arrays with the T pairs **last**. A conic is the six entries xx, yy, ww, xy, xw, yw of a
symmetric matrix in homogeneous coordinates (x, y, w).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.cubic_roots import outermost_root


def common_points(conics: Float[Tensor, "6 2 T"]) -> tuple[Float[Tensor, "3 4 T"], Bool[Tensor, "4 T"]]:
    """Homogeneous points common to both conics of each pair, in any scale, and whether they are real.

    Under a false mask they are meaningless, but finite for finite conics. A double point comes twice.

    The degenerate conic is a pair of lines through its null vector p. In an orthonormal basis (p, e, f) it is a binary
    quadratic form of (e, f) whose zeros are directions q of the lines; on a line ``α p + β q`` the other conic is a
    binary quadratic form of (α, β).
    """
    degenerate, other = _degenerate_conic(conics)
    p = _null_vector(degenerate)
    e_and_f = orthogonal_pair(p)
    image = _apply(degenerate, e_and_f)
    e, f = e_and_f[:, 0], e_and_f[:, 1]
    directions, real_lines = _zeros(
        inner_product(e, image[:, 0]), inner_product(e, image[:, 1]), inner_product(f, image[:, 1])
    )
    q = e[:, None] * directions[0] + f[:, None] * directions[1]  # (3, 2 lines, T)
    p = p[:, None].expand_as(q)
    image = _apply(other, q)
    # (2 coordinates, 2 zeros, 2 lines, T)
    points, real_points = _zeros(inner_product(p, _apply(other, p)), inner_product(p, image), inner_product(q, image))
    common = (p[:, None] * points[0]).addcmul_(q[:, None], points[1])
    return common.flatten(1, 2), (real_points & real_lines).repeat(2, 1)


def _degenerate_conic(conics: Tensor) -> tuple[Tensor, Tensor]:
    """A conic of the pencil ``C₁ + σ C₂`` whose determinant vanishes, and another, at right angles in the pencil.

    ``det(C₁ + σ C₂) = det C₁ + σ tr(adj C₁ C₂) + σ² tr(adj C₂ C₁) + σ³ det C₂``, and ``det C = ⅓ tr(adj C C)``.
    """
    adjugate = _adjugate(conics)
    products = conics[:, None, :] * adjugate[:, :, None]  # (6, adjugate of, conic, T)
    traces = products[:3].sum(dim=0) + 2 * products[3:].sum(dim=0)
    sigma = outermost_root(traces[0, 0] / 3, traces[0, 1], traces[1, 0], traces[1, 1] / 3)
    cosine = (sigma * sigma + 1).rsqrt()
    sine = sigma * cosine
    first, second = conics[:, 0], conics[:, 1]
    return first * cosine + second * sine, second * cosine - first * sine


def _adjugate(conic: Tensor) -> Tensor:
    """The adjugate of symmetric 3×3 matrices, entries in the same order."""
    xx, yy, ww, xy, xw, yw = conic
    return torch.stack(
        (
            *(yy * ww - yw * yw, xx * ww - xw * xw, xx * yy - xy * xy),
            *(xw * yw - xy * ww, xy * yw - xw * yy, xy * xw - yw * xx),
        )
    )


def _null_vector(conic: Tensor) -> Tensor:
    """The unit null vector of degenerate conics: the longest column of the adjugate, which is ± p pᵀ."""
    xx, yy, ww, xy, xw, yw = _adjugate(conic)
    column, size = torch.stack((xx, xy, xw)), xx.abs()
    for diagonal, other in ((yy, torch.stack((xy, yy, yw))), (ww, torch.stack((xw, yw, ww)))):
        larger = diagonal.abs() > size
        column, size = torch.where(larger, other, column), torch.where(larger, diagonal.abs(), size)
    length = inner_product(column, column).sqrt()
    return column / torch.where(length > 0, length, torch.ones_like(length))


def _apply(conic: Tensor, vectors: Tensor) -> Tensor:
    """``C v`` for vectors (3, k, T)."""
    xx, yy, ww, xy, xw, yw = conic
    x, y, w = vectors
    return torch.stack((xx * x + xy * y + xw * w, xy * x + yy * y + yw * w, xw * x + yw * y + ww * w))


def _zeros(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Both zeros (s : r) of the forms ``a s² + 2 b s r + c r²`` as (2, 2, …), and whether they are real.

    A double zero that rounding made complex counts as real.
    """
    squared, product = b * b, a * c
    discriminant = squared - product
    real = discriminant > (squared.add_(product.abs_())).mul_(-64 * torch.finfo(a.dtype).eps)
    w = torch.copysign(discriminant.clamp_min_(0).sqrt_(), b).add_(b)
    return torch.stack((-w, -c, a.expand_as(w), w)).unflatten(0, (2, 2)), real


def orthogonal_pair(vector: Float[Tensor, "3 T"]) -> Float[Tensor, "3 2 T"]:
    """Two unit vectors orthogonal to the unit vector and to each other.

    T. Duff et al., Building an orthonormal basis, revisited, JCGT 2017.
    """
    x, y, z = vector
    sign = torch.copysign(torch.ones_like(z), z)
    a = -1 / (sign + z)
    b = x * y * a
    first = torch.stack((1 + sign * x * x * a, sign * b, -sign * x))
    return torch.stack((first, torch.stack((b, sign + y * y * a, -y))), dim=1)


def inner_product(a: Float[Tensor, "3 *#T"], b: Float[Tensor, "3 *#T"]) -> Float[Tensor, "..."]:
    """``Σ aᵢ bᵢ`` over the first dimension."""
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])
