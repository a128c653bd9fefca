"""The plane that holds most inliers of a fundamental matrix, and fundamental matrices from that plane and two matches.

Matches of one plane (or of a camera that only turns) satisfy ``F = [e2]× H`` for *every* epipole e2: five of them and
any two other matches give an F that all of the plane agree with, right or wrong. So the plane is looked for, and the
epipole searched once more among the matches beside it.

O. Chum, T. Werner and J. Matas, Two-view geometry estimation unaffected by a dominant plane, CVPR 2005. HZ below is
R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.geometry.linear_systems import solve_symmetric
from rfp.robust.fundamental_refinement import cofactors
from rfp.robust.scoring import table_product

_WIDTH = 3.0
"""How far from a plane a match of it may be, in thresholds of F. Wide: a match of the plane that noise moved along its
epipolar line must not count as parallax."""
_NUM_TRIPLES = 32
"""Planes tried. One that holds two thirds of the inliers is missed by all of them in one case of 60 000."""
_NUM_PAIRS = 256
"""Epipoles tried. One match in six beside the plane being right, seven pairs of these are."""
_REFITS = 3


@dataclass(frozen=True)
class _Pencil:
    """The homographies ``H = A - e2 vᵀ`` of each F, one for every v: those of all planes (HZ, section 13.1).

    ``A = [e2]× F``; a match is on the plane of v if ``v·x1 = b`` (HZ, result 13.6). Points are homogeneous.
    """

    x1: Float[Tensor, "P 3 N"]
    x2: Float[Tensor, "P 3 N"]
    Ax1: Float[Tensor, "P 3 N"]
    A: Float[Tensor, "P 3 3"]
    e2: Float[Tensor, "P 3"]
    b: Float[Tensor, "P N"]
    gradient: Float[Tensor, "P 3"]
    """``det H = -gradient·v``."""
    width: Float[Tensor, "P"]


def dominant_plane(
    F: Float[Tensor, "P 9"],
    inliers: Bool[Tensor, "P N"],
    points: Float[Tensor, "P N 4"],
    max_error: Float[Tensor, "P"],
) -> tuple[Float[Tensor, "P 3 3"], Bool[Tensor, "P N"]]:
    """The homography of F that most of its inliers agree with, and which of all matches may belong to its plane.

    The best of planes through three inliers each, refitted to all inliers near it.
    """
    pencil = _pencil(F, points, max_error)
    v = _planes_through_triples(pencil, inliers)
    agreeing = inliers.to(F.dtype)[:, None]
    best = (_nearness(v, pencil)[0] * agreeing).sum(dim=-1).argmax(dim=1)
    v = v.gather(2, best[:, None, None].expand(-1, 3, 1))
    augmented = torch.cat((pencil.x1, pencil.b[:, None]), dim=1)
    for _ in range(_REFITS):
        near, growth = _nearness(v, pencil)
        weight = near.square() * growth * agreeing  # (P, 1, N)
        normal = torch.stack([(weight * pencil.x1[:, row, None] * augmented).sum(dim=-1) for row in range(3)], dim=1)
        refitted = solve_symmetric(normal)[..., None]
        v = torch.where(torch.isfinite(refitted).all(dim=1, keepdim=True), refitted, v)
    return pencil.A - pencil.e2[:, :, None] * v.mT, _nearness(v, pencil)[0][:, 0] > 0


def epipoles_beside_plane(
    H: Float[Tensor, "P 3 3"], beside: Bool[Tensor, "P N"], points: Float[Tensor, "P N 4"], F: Float[Tensor, "P 9"]
) -> Float[Tensor, "P 9 C"]:
    """``[e2]× H`` of norm 1 for the epipoles of pairs of matches beside the plane; F itself where a pair has none.

    The epipole of two matches is where the lines ``x2 × H x1`` meet, as parallax to the plane points to it.
    """
    one = torch.ones_like(points[..., :1])
    x1, x2 = (torch.cat((x, one), dim=-1).mT for x in (points[..., :2], points[..., 2:]))
    lines = torch.linalg.cross(x2, table_product(H.mT, x1), dim=1)
    index = _spread_tuples(beside, 2, _NUM_PAIRS)
    first, second = (lines.gather(2, index[:, None, member].expand(-1, 3, -1)) for member in range(2))
    e2 = torch.linalg.cross(first, second, dim=1)  # (P, 3, pairs)
    candidates = torch.linalg.cross(
        e2[:, :, None].expand(-1, -1, 3, -1), H[..., None].expand(-1, -1, -1, _NUM_PAIRS), dim=1
    )
    candidates = candidates.flatten(1, 2)
    norm = candidates.square().sum(dim=1, keepdim=True).sqrt()
    defined = torch.isfinite(norm) & (norm > torch.finfo(norm.dtype).tiny) & (index[:, :1] != index[:, 1:])
    return torch.where(defined, candidates / torch.where(defined, norm, torch.ones_like(norm)), F[..., None])


def _pencil(F: Tensor, points: Tensor, max_error: Tensor) -> _Pencil:
    matrix = F.unflatten(-1, (3, 3))
    C = cofactors(F).unflatten(-1, (3, 3))  # e2 e1ᵀ up to scale
    longest = C.square().sum(dim=-2).argmax(dim=-1)
    e2 = C.gather(-1, longest[:, None, None].expand(-1, 3, 1))
    tiny = torch.finfo(F.dtype).tiny
    e2 = e2 / e2.square().sum(dim=1, keepdim=True).sqrt().clamp_min(tiny)
    A = torch.linalg.cross(e2.expand_as(matrix), matrix, dim=1)
    one = torch.ones_like(points[..., :1])
    x1, x2 = (torch.cat((x, one), dim=-1).mT.contiguous() for x in (points[..., :2], points[..., 2:]))
    Ax1 = table_product(A.mT, x1)
    across = torch.linalg.cross(x2, e2.expand_as(x2), dim=1)
    b = (torch.linalg.cross(x2, Ax1, dim=1) * across).sum(dim=1) / across.square().sum(dim=1).clamp_min(tiny)
    gradient = (cofactors(A.flatten(1)).unflatten(-1, (3, 3)) * e2).sum(dim=1)
    return _Pencil(x1, x2, Ax1, A, e2[..., 0], b, gradient, _WIDTH * max_error)


def _planes_through_triples(pencil: _Pencil, inliers: Tensor) -> Tensor:
    """v (P, 3, triples) with ``v·x1 = b`` at three inliers, by Cramer's rule; zero where they are on a line."""
    index = _spread_tuples(inliers, 3, _NUM_TRIPLES)
    corners = pencil.x1[:, :, None].expand(-1, -1, 3, -1).gather(3, index[:, None].expand(-1, 3, -1, -1))
    values = pencil.b[:, None].expand(-1, 3, -1).gather(2, index)
    cross = torch.linalg.cross(corners.roll(-1, dims=2), corners.roll(-2, dims=2), dim=1)
    volume = (cross[:, :, 0] * corners[:, :, 0]).sum(dim=1, keepdim=True)
    v = (cross * values[:, None]).sum(dim=2) / torch.where(volume != 0, volume, torch.ones_like(volume))
    return torch.where(torch.isfinite(v), v, torch.zeros_like(v))


def _nearness(v: Tensor, pencil: _Pencil) -> tuple[Tensor, Tensor]:
    """``1 - d²/width²`` clamped at zero (P, C, N) for the planes (P, 3, C), and how d²/width² grows with (b - v·x1)².

    d² is the squared transfer error in image 2 over ``1 + s²``, where ``s² = |det H / w³|`` is the factor by which H
    enlarges areas there: noise of both images adds up to it.
    """
    beta = table_product(v, pencil.x1)
    x, y, w = (pencil.Ax1[:, None, axis] - pencil.e2[:, axis, None, None] * beta for axis in range(3))
    u2, v2 = pencil.x2[:, None, 0], pencil.x2[:, None, 1]
    determinant = (pencil.gradient[..., None] * v).sum(dim=1).abs()[..., None]
    inverse = w.abs() / (w.abs() ** 3 + determinant).clamp_min_(torch.finfo(w.dtype).tiny)  # 1 / (w² (1 + s²))
    inverse = inverse / pencil.width.square()[:, None, None]
    squared = ((x - u2 * w).square_() + (y - v2 * w).square_()) * inverse
    e2x, e2y, e2w = (pencil.e2[:, axis, None, None] for axis in range(3))
    growth = ((e2x - u2 * e2w).square() + (e2y - v2 * e2w).square()) * inverse
    return (1 - squared).clamp_min_(0), growth


def _spread_tuples(mask: Tensor, size: int, count: int) -> Tensor:
    """Indices (P, size, count) of matches under the mask, without a generator: the R-sequence of low discrepancy.

    Coordinate k of the n-th point is ``frac(n g⁻ᵏ)`` with ``g^(size + 1) = g + 1``. M. Roberts, The unreasonable
    effectiveness of quasirandom sequences, 2018.
    """
    ends = mask.double().cumsum(dim=-1)
    root = 1.0
    for _ in range(40):
        root = (1 + root) ** (1 / (size + 1))
    number = torch.arange(1, count + 1, device=mask.device, dtype=torch.float64)
    place = torch.stack([(number * root**-power).frac() for power in range(1, size + 1)]).flatten()
    index = torch.searchsorted(ends, place * ends[:, -1:], right=True)
    return index.clamp_max_(mask.shape[-1] - 1).unflatten(1, (size, count))
