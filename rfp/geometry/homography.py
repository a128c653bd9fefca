"""Homographies from points of a plane (or of a camera that only turns), batched, on the device.

R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition; HZ below. ``x2 ~ H x1`` for homogeneous points, and
``w = (H (x1, 1))₃ > 0`` for points that two cameras see on the same side of a plane.

The minimal solver computes in structures of arrays with the T samples **last**, see ``five_point``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.direct_linear import is_only_null_vector, normalized_matches
from rfp.geometry.householder import DEGENERATE
from rfp.geometry.linear_systems import smallest_eigenvector
from rfp.geometry.samples import samples_last


def four_point(
    x1: Float[Tensor, "*B 4 2"], x2: Float[Tensor, "*B 4 2"], *, solver_dtype: torch.dtype = torch.float64
) -> tuple[Float[Tensor, "*B 3 3"], Bool[Tensor, "*B"]]:
    """The homography through four matches of points, and whether two cameras can see it.

    ``x2 ~ H x1`` with ``‖H‖ = 1`` and the sign that puts the four points in front, ``w > 0``; then ``det H > 0``.
    Points in any unit: the result does not depend on the origin beyond rounding.

    Masked, with zeros: a sample with three points on a line in either image (repeated points among them), and one of
    which a triple turns the other way round in the other image, because no two cameras in front of a plane see that.
    Not differentiable.

    Args:
        solver_dtype: of the algebra inside; the result has the dtype of ``x1``.

    Both quadruples are brought to the same projective basis, HZ section 4.1: with ``λ`` the areas of the triangles that
    the fourth point makes with two others, ``H = Σᵢ (λ₂ᵢ / λ₁ᵢ) q_i (p_j × p_k)ᵀ`` over the cyclic (i, j, k).

    >>> x1 = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> H, valid = four_point(x1, 2 * x1 + 1)
    >>> (H / H[2, 2]).round(decimals=6), valid
    (tensor([[2., 0., 1.],
            [0., 2., 1.],
            [0., 0., 1.]]), tensor(True))
    """
    batch = x1.shape[:-2]
    first = samples_last(x1, solver_dtype)
    second = samples_last(x2, solver_dtype)
    H, valid = four_point_planes(first, second)
    return H.permute(1, 0).to(x1.dtype).reshape(*batch, 3, 3), valid.reshape(batch)


@torch.no_grad()
def four_point_planes(
    x1: Float[Tensor, "4 2 T"], x2: Float[Tensor, "4 2 T"]
) -> tuple[Float[Tensor, "9 T"], Bool[Tensor, "T"]]:
    """``four_point`` in the layout that it computes in: row-major entries of H first, samples last."""
    points = torch.stack((x1, x2))
    origin = points[:, 3]
    corners = points[:, :3] - origin[:, None]  # from the fourth point: areas and shifts lose no digits
    areas, seen = _areas(corners, points)
    ratios = areas[1] / torch.where(seen, areas[0], torch.ones_like(areas[0]))
    H = _between_shifted(corners, areas, ratios)
    # H T(-p4), then T(q4) H
    H[:, 2] -= H[:, 0] * origin[0, 0] + H[:, 1] * origin[0, 1]
    H[:2].addcmul_(H[2], origin[1][:, None])
    H = H.flatten(0, 1)
    norm = _squared_norm(H).sqrt()
    valid = seen & torch.isfinite(norm) & (norm > 0)
    H /= torch.where(valid, norm, torch.ones_like(norm)).copysign_(areas[1].sum(dim=0))
    return torch.where(valid, H, torch.zeros_like(H)), valid


def _squared_norm(planes: Tensor) -> Tensor:
    """Sums of squares, one plane after the other: ``sum`` rounds nine of them by where a column stands."""
    total = planes[0] * planes[0]
    for plane in planes[1:]:
        total = torch.addcmul(total, plane, plane)
    return total


def _areas(corners: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The three areas ``λ`` of each image (2, 3, T), doubled and signed, and whether two cameras can see the sample.

    λᵢ is that of the triangle of the fourth point and the two corners after the i-th; the sum of the three is that of
    the triangle of all corners. A triple with the same sign in both images, for each of the four, is the same as w > 0
    at all four points with det H > 0.
    """
    following, preceding = corners.roll(-1, dims=1), corners.roll(-2, dims=1)
    areas = following[:, :, 0] * preceding[:, :, 1] - following[:, :, 1] * preceding[:, :, 0]
    triples = torch.cat((areas, areas.sum(dim=1, keepdim=True)), dim=1)
    extent = corners.abs().flatten(1, 2).amax(dim=1)
    # The rounding of an area grows with the distance from the origin, too.
    least = extent * points.abs().flatten(1, 2).amax(dim=1) * max(DEGENERATE, 16 * torch.finfo(points.dtype).eps)
    apart = (triples.abs() > least[:, None]).all(dim=0)
    return areas, (apart & (triples[0].sign() == triples[1].sign())).all(dim=0)


def _between_shifted(corners: Tensor, areas: Tensor, ratios: Tensor) -> Tensor:
    """H (3, 3, T) between images whose origins are the fourth points: its last column is ``(0, 0, Σ λ₂)``."""
    following, preceding = corners[0].roll(-1, dims=0), corners[0].roll(-2, dims=0)
    line = torch.stack((following[:, 1] - preceding[:, 1], preceding[:, 0] - following[:, 0]))  # (p_j × p_k)₁₂
    line *= ratios
    H = corners.new_zeros((3, 3, corners.shape[-1]))
    for corner in range(3):
        H[:2, :2].addcmul_(corners[1, corner][:, None], line[:, corner][None])
    H[2, :2] = (line[:, 0] + line[:, 1]) + line[:, 2]
    H[2, 2] = (areas[1, 0] + areas[1, 1]) + areas[1, 2]
    return H


def homography_dlt(
    x1: Float[Tensor, "*B N 2"], x2: Float[Tensor, "*B N 2"], weight: Float[Tensor, "*B N"] | None = None
) -> tuple[Float[Tensor, "*B 3 3"], Bool[Tensor, "*B"]]:
    """The homography with the least algebraic error over N matches, and whether they determine one.

    ``min Σ wᵢ ‖[x2ᵢ]× H x1ᵢ‖²`` (its first two rows) with ``‖H‖ = 1`` between normalised points: centroid at the
    origin, root mean square distance √2 from it. The result is scaled to ``‖H‖ = 1`` in the units of the points, with
    the sign that puts the centroid of x1 in front, ``w > 0``. All in float64; the result has the dtype of ``x1``.

    Differentiable in points and weights where it is valid. Masked, with zeros: fewer than four matches of positive
    weight, too many of them on a line in either image, matches that only a singular H maps. A match that is not finite
    counts as one of weight zero.

    Args:
        weight: how much the squared error of each match counts, 1 by default.

    HZ algorithm 4.2 with the normalisation of section 4.4, from the 9×9 normal matrix.

    >>> x1 = torch.rand(5, 20, 2)
    >>> H, valid = homography_dlt(x1, 2 * x1 + 1)
    >>> bool(valid.all()), torch.allclose(H[:, 0, 0] / H[:, 2, 2], torch.full((5,), 2.0))
    (True, True)
    """
    batch = x1.shape[:-2]
    points, centroid, scale, weights = normalized_matches(x1, x2, weight)
    normal = _normal_matrix(points[0], points[1], weights)
    h = smallest_eigenvector(normal)
    valid = _determined(normal.detach(), h.detach())
    H = _denormalized(h.unflatten(-1, (3, 3)), centroid, scale)
    H = torch.where(valid[:, None, None], H, torch.eye(3, dtype=H.dtype, device=H.device))
    H = H / torch.copysign(H.square().sum(dim=(-2, -1)).sqrt(), h[:, 8])[:, None, None]
    H = torch.where(valid[:, None, None], H, torch.zeros_like(H))
    return H.to(x1.dtype).reshape(*batch, 3, 3), valid.reshape(batch)


def _normal_matrix(x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
    """``Σ w Aᵀ A`` (P, 9, 9) of two rows a match, ``(-p, 0, u p)`` and ``(0, -p, v p)``; p = (x1, 1), (u, v) = x2."""
    p = torch.cat((x1, torch.ones_like(x1[..., :1])), dim=-1).transpose(-1, -2)  # (P, 3, N)
    outer = p[:, :, None] * p[:, None]
    u, v = x2[..., 0], x2[..., 1]
    one, by_u, by_v, by_both = (
        (outer * (weights * factor)[:, None, None]).sum(dim=-1)
        for factor in (torch.ones_like(u), -u, -v, u * u + v * v)
    )
    rows = ((one, torch.zeros_like(one), by_u), (torch.zeros_like(one), one, by_v), (by_u, by_v, by_both))
    return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)


def _determined(normal: Tensor, h: Tensor) -> Tensor:
    """Whether the null vector of the normal matrix is the only one, and a regular matrix."""
    row1, row2, row3 = h.unflatten(-1, (3, 3)).unbind(-2)
    determinant = (torch.linalg.cross(row1, row2, dim=-1) * row3).sum(dim=-1)
    return is_only_null_vector(normal, h) & (determinant.abs() > DEGENERATE)


def _denormalized(H: Tensor, centroid: Tensor, scale: Tensor) -> Tensor:
    """``T2⁻¹ H T1`` for the similarities ``T x = (x - centroid) / scale``."""
    left, right = H[..., :2] / scale[0][:, None, None], H[..., 2]
    H = torch.cat((left, (right - (left * centroid[0][:, None]).sum(dim=-1))[..., None]), dim=-1)
    return torch.cat((H[:, :2] * scale[1][:, None, None] + centroid[1][..., None] * H[:, 2:], H[:, 2:]), dim=-2)
