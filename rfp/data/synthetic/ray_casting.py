"""The first solid that each ray meets, analytically: one pass over the solids of a scene, whatever their order.

A ray through the normalised point (x, y) is ``X = C + z d``, ``d = Rᵀ (x, y, 1)``, so that z is the depth, and in the
frame of a solid ``l = o + z d``. Where it crosses a plane ``lₖ = ±1`` the *inverse* depth ``w = dₖ / (±1 - oₖ)`` is
affine in x and y: on a grid of pixels it costs one addition of a row and a column, and divides by nothing. A solid is
an intersection of intervals of w: planes that the ray has to be behind of (``w ≤ front``), planes it has to be in front
of (``w ≥ back``), and for rounds a quadric. It is met at the smallest front if that is above every back.

The nearest solid is kept as one integer, the bits of its w with the lowest five replaced by its number: numbers above
zero order as their bits do, and one maximum replaces a comparison and two selections, which cost a CPU five times as
much. What that takes off the depth (4e-6 of it) one Newton step on the surface gives back (``shading.surface_hits``).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.synthetic.cameras import Cameras
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.solids import Solids, apply, compose

ID_BITS = 5
BEYOND = 1e12
"""A missed solid is put this many times its miss away: no branch, and no inequality by rounding matters."""
UNBOUNDED = 1e9
"""Of an inverse depth."""
RAYS_AT_ONCE = 2**14
"""Up to so many rays all solids are met at once, above one after the other: small calls cost launches, not memory."""


@dataclass(frozen=True)
class LocalRays:
    """The rays of V views in the frames of n solids: ``l = origin + z (direction (x, y, 1))``, x and y normalised."""

    origin: Float[Tensor, "V n 3"]
    direction: Float[Tensor, "V n 3 3"]
    closed: Float[Tensor, "V n"]


def local_rays(solids: Solids, cameras: Cameras) -> LocalRays:
    """The rays of one camera for each scene."""
    scaled = solids.axes / solids.half[..., None]
    origin = apply(scaled, cameras.centre[..., None, :] - solids.centre)
    return LocalRays(origin, compose(scaled, cameras.R.mT[..., None, :, :]), solids.closed)


def cast(
    rays: LocalRays, x: Float[Tensor, "..."], y: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "V ..."], Int[Tensor, "V ..."]]:
    """Depth (to 4e-6 of itself) and number of the first solid, for normalised points of V views.

    Args:
        x: (1 | V, …); y too, and they broadcast: (V, 1, w) and (V, h, 1) are whole images.
    """
    n = rays.origin.shape[1]
    shape = torch.broadcast_shapes(x.shape, y.shape)
    many = rays.origin.shape[0] * shape[1:].numel() > RAYS_AT_ONCE
    number = torch.arange(n, device=x.device, dtype=torch.int32).reshape(1, n, *([1] * (x.ndim - 1)))
    bounds, quadrics = _Affine(_plane_bounds(rays), x, y), _quadrics(rays)

    nearest = _packed(bounds.largest(slice(0, 1), BACK), number[:, :1])[:, 0]
    for solids in _blocks(1, BOX_SLOTS + 1, many):
        nearest = _nearer(nearest, *_box_interval(bounds, solids), number[:, solids])
    for solids in _blocks(BOX_SLOTS + 1, n, many):
        interval = _round_interval(bounds, quadrics, solids, x, y)
        nearest = _nearer(nearest, *interval, number[:, solids])
    identity = nearest & (2**ID_BITS - 1)
    return nearest.sub_(identity).view(torch.float32).reciprocal_(), identity


def _blocks(start: int, stop: int, one_by_one: bool) -> list[slice]:
    return [slice(k, k + 1) for k in range(start, stop)] if one_by_one else [slice(start, stop)]


def _packed(inverse_depth: Float[Tensor, "V k ..."], number: Int[Tensor, "1 k ..."]) -> Int[Tensor, "V k ..."]:
    return inverse_depth.view(torch.int32).bitwise_and_(-(2**ID_BITS)).bitwise_or_(number)


def _nearer(nearest: Tensor, front: Float[Tensor, "V k ..."], back: Float[Tensor, "V k ..."], number: Tensor) -> Tensor:
    """The nearest of what was met so far and of the solids met where ``front ≥ back``; those behind have w < 0."""
    miss = back.sub_(front).clamp_(min=0)
    packed = _packed(front.sub_(miss, alpha=BEYOND), number)
    candidate = packed[:, 0] if packed.shape[1] == 1 else packed.amax(dim=1)
    return torch.maximum(nearest, candidate, out=nearest)


FRONT, BACK = slice(0, 3), slice(3, 9)


def _plane_bounds(rays: LocalRays) -> Float[Tensor, "V n 9 3"]:
    """Coefficients of (x, y, 1) in the inverse depths of the planes: three fronts, then six backs.

    Seen from outside of a slab, its near plane is a front and its far one a back (stated twice). From inside, both are
    backs, and the front is unbounded.
    """
    o = rays.origin[..., None]
    inside, side = o.abs() <= 1, torch.where(o < 0, -1.0, 1.0)

    def inverse_depth(plane: Tensor) -> Tensor:
        gap = plane - o
        return rays.direction / torch.where(gap.abs() > 1e-9, gap, 1e-9)

    unbounded = torch.nn.functional.pad(torch.full_like(o, UNBOUNDED), (2, 0)).expand_as(rays.direction)
    front = torch.where(inside, unbounded, inverse_depth(side))
    far = inverse_depth(-side)
    return torch.cat((front, far, torch.where(inside, inverse_depth(side), far)), dim=-2)


@dataclass(frozen=True)
class _Quadrics:
    """Of ``α + 2 β w + w² ≤ 0`` (≥ where the camera is inside the cylinder's mantle): β and ``β² - α``."""

    middle: Float[Tensor, "V n 3"]
    """Coefficients of (x, y, 1) in -β."""
    discriminant: Float[Tensor, "V n 3 3"]
    """Quadratic form of (x, y, 1), symmetric."""
    inside: Float[Tensor, "V n"]


def _quadrics(rays: LocalRays) -> _Quadrics:
    ones = torch.ones_like(rays.closed)
    weight = torch.stack((ones, ones, rays.closed), dim=-1)
    o, d = rays.origin, rays.direction
    weighted = weight[..., None] * d
    c = (weight * o * o).sum(dim=-1) - 1
    c = torch.where(c.abs() > 1e-6, c, 1e-6)
    beta = (o[..., None] * weighted).sum(dim=-2) / c[..., None]
    alpha = (d[..., :, :, None] * weighted[..., :, None, :]).sum(dim=-3) / c[..., None, None]
    return _Quadrics(-beta, beta[..., :, None] * beta[..., None, :] - alpha, (c < 0).to(c.dtype))


class _Affine:
    """The planes' inverse depths over all rays, for a few solids at a time."""

    def __init__(self, coefficients: Float[Tensor, "V n f 3"], x: Tensor, y: Tensor) -> None:
        self._a, self._b, self._c = (
            part.reshape(*part.shape, *([1] * (x.ndim - 1))) for part in coefficients.unbind(dim=-1)
        )
        self._x, self._y = x[:, None, None], y[:, None, None]

    def __call__(self, solids: slice, which: slice) -> list[tuple[Tensor, Tensor]]:
        """The functions ``which`` as terms of x and of y, yet to be added: a row and a column on a grid."""
        a, b, c = self._a[:, solids, which], self._b[:, solids, which], self._c[:, solids, which]
        return list(zip((a * self._x).unbind(dim=2), (b * self._y + c).unbind(dim=2)))

    def largest(self, solids: slice, which: slice) -> Float[Tensor, "V k ..."]:
        return _fold(torch.maximum, self(solids, which))

    def smallest(self, solids: slice, which: slice) -> Float[Tensor, "V k ..."]:
        return _fold(torch.minimum, self(solids, which))


def _fold(extreme, terms: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "V k ..."]:
    value = torch.add(*terms[0])
    other = torch.empty_like(value)
    for row, column in terms[1:]:
        value = extreme(value, torch.add(row, column, out=other), out=value)
    return value


def _box_interval(bounds: _Affine, solids: slice) -> tuple[Tensor, Tensor]:
    return bounds.smallest(solids, FRONT), bounds.largest(solids, BACK)


def _round_interval(bounds: _Affine, quadrics: _Quadrics, solids: slice, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The roots -β ± √(β² - α) of the quadric, and the two planes across the axis."""
    spread = (1,) * (x.ndim - 1)
    x, y = x[:, None], y[:, None]

    def entry(tensor: Tensor) -> Tensor:
        return tensor.reshape(*tensor.shape, *spread)

    form = [[entry(quadrics.discriminant[:, solids, i, j]) for j in range(3)] for i in range(3)]
    row = (form[0][0] * x + 2 * form[0][2]) * x
    column = (form[1][1] * y + 2 * form[1][2]) * y + form[2][2]
    discriminant = (row + column).add_((2 * form[0][1] * x) * y)
    middle_row, middle_column, middle_constant = (entry(quadrics.middle[:, solids, k]) for k in range(3))
    middle = middle_row * x + (middle_column * y + middle_constant)
    root = discriminant.clamp(min=1e-30).sqrt_()  # zeros take a CPU eight times as long
    inside = entry(quadrics.inside[:, solids])
    front = (middle + root).add_(UNBOUNDED * inside)
    back = middle.sub_(root.mul_(1 - 2 * inside))
    back = back.sub_(discriminant.clamp_(max=0), alpha=BEYOND)  # nothing meets a quadric that has no root
    across = slice(2, 9, 3)  # the front and the two backs of the third axis
    near, *far = (torch.add(*terms) for terms in bounds(solids, across))
    for plane in far:
        back = torch.maximum(back, plane, out=back)
    return torch.minimum(front, near, out=front), back
