"""The first solid that each ray meets, analytically: one pass over the solids of a scene, whatever their order.

A ray through pixel (u, v) is ``X = C + z d``, ``d = Rᵀ K⁻¹ (u, v, 1)``, so that z is the depth. In the frame of a solid
it is ``l = o + z d``, with d affine in the pixel, and the solid is an intersection of intervals of z: slabs ``|lₖ|
≤ 1`` and, for rounds, a quadric. It is met at the largest entry if that comes before the smallest exit.

The nearest solid is kept as one integer, the bits of its depth with the lowest five replaced by its number: depths
above zero order as integers do, and one minimum replaces a comparison and two selections, which cost a CPU five times
as much. What that takes off the depth (4e-6 of it) one Newton step on the surface gives back (``surface_hits``).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.synthetic.cameras import Cameras, ray_matrix
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.solids import Solids, apply, compose

ID_BITS = 5
BEYOND = 1e12
"""A missed solid is put this many times its miss away: no branch, and no inequality by rounding matters."""


@dataclass(frozen=True)
class LocalRays:
    """The rays of V views in the frames of n solids: ``l = origin + z (direction (u, v, 1))``."""

    origin: Float[Tensor, "V n 3"]
    direction: Float[Tensor, "V n 3 3"]
    closed: Float[Tensor, "V n"]


def local_rays(solids: Solids, cameras: Cameras) -> LocalRays:
    """The rays of one camera for each scene; both with the same leading dimensions, which are flattened."""
    scaled = solids.axes / solids.half[..., None]
    origin = apply(scaled, cameras.centre[..., None, :] - solids.centre)
    direction = compose(scaled, ray_matrix(cameras)[..., None, :, :])
    n = origin.shape[-2]
    return LocalRays(origin.reshape(-1, n, 3), direction.reshape(-1, n, 3, 3), solids.closed.reshape(-1, n))


def cast(
    rays: LocalRays, u: Float[Tensor, "..."], v: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "V ..."], Int[Tensor, "V ..."]]:
    """Depth (to 4e-6 of itself) and number of the first solid, for pixels of V views.

    Args:
        u: (1 | V, …) pixel columns, v: pixel rows; they broadcast: (1, 1, w) and (1, h, 1) are a whole image.
    """
    dims = [-1, *([1] * (u.ndim - 1))]

    def affine(coefficients: Float[Tensor, "V 3"]) -> Tensor:
        a, b, c = (coefficients[:, k].reshape(dims) for k in range(3))
        return a * u + (b * v + c)

    nearest = _nearest_of(_enclosure_exit(rays, affine, dims), 0)
    for solid in range(1, rays.origin.shape[1]):
        meet = _meet_box if solid <= BOX_SLOTS else _meet_round
        entry, leave = meet(rays, solid, affine, dims)
        entry.clamp_(min=0)  # what lies behind the camera is left before it is entered
        depth = entry.add_(leave.neg_().add_(entry).clamp_(min=0), alpha=BEYOND)
        nearest = torch.minimum(nearest, _nearest_of(depth, solid), out=nearest)
    identity = nearest & (2**ID_BITS - 1)
    return nearest.sub_(identity).view(torch.float32), identity


def _nearest_of(depth: Float[Tensor, "V ..."], solid: int) -> Int[Tensor, "V ..."]:
    return depth.view(torch.int32).bitwise_and_(-(2**ID_BITS)).bitwise_or_(solid)


def _slab(d: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves ``|l| ≤ 1``; for d = 0 very far before and behind, or never."""
    inverse = d.reciprocal_().clamp_(-1e18, 1e18)  # infinities would become NaN, whose bits may order before all
    one, two = inverse * (-1 - o), inverse.mul_(1 - o)
    return torch.minimum(one, two), torch.maximum(one, two, out=one)


def _meet_box(rays: LocalRays, solid: int, affine, dims) -> tuple[Tensor, Tensor]:
    entry, leave = _slab(affine(rays.direction[:, solid, 0]), rays.origin[:, solid, 0].reshape(dims))
    for axis in (1, 2):
        near, far = _slab(affine(rays.direction[:, solid, axis]), rays.origin[:, solid, axis].reshape(dims))
        entry, leave = torch.maximum(entry, near, out=entry), torch.minimum(leave, far, out=leave)
    return entry, leave


def _enclosure_exit(rays: LocalRays, affine, dims) -> Tensor:
    return _meet_box(rays, 0, affine, dims)[1]


def _meet_round(rays: LocalRays, solid: int, affine, dims) -> tuple[Tensor, Tensor]:
    """``a z² + 2 b z + c ≤ 0`` and the slab of lz; where the quadric is missed the root is NaN, made a miss below."""
    direction, origin, closed = rays.direction[:, solid], rays.origin[:, solid], rays.closed[:, solid, None]
    weight = torch.stack((torch.ones_like(closed), torch.ones_like(closed), closed), dim=1)[..., 0]
    x, y, z = (affine(direction[:, axis]) for axis in range(3))
    a = x.mul_(x).add_(y.mul_(y)).add_((z * z).mul_(weight[:, 2].reshape(dims)))
    b = affine(((weight * origin)[..., None] * direction).sum(dim=1))
    c = ((weight * origin * origin).sum(dim=-1) - 1).reshape(dims)
    discriminant = (b * b).sub_(a * c)
    root = discriminant.clamp(min=0).sqrt_()
    inverse = a.clamp_(min=1e-20).reciprocal_()
    entry, leave = (b + root).mul_(inverse).neg_(), root.sub_(b).mul_(inverse)
    near, far = _slab(z, origin[:, 2].reshape(dims))
    missed = discriminant.neg_().clamp_(min=0)  # how far: as for slabs, the entry is moved behind the exit by it
    return torch.maximum(entry, near, out=entry), torch.minimum(leave, far, out=leave).sub_(missed, alpha=BEYOND)
