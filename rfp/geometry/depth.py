"""Points carried from one view to the other through a depth map."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SMOOTH = 0.05
"""Largest relative difference of the four inverse depths around a point, beyond which it lies on an edge of depth."""


def inverse_depth_at(
    depth: Float[Tensor, "*#B h w"], xy_px: Float[Tensor, "*#B N 2"]
) -> tuple[Float[Tensor, "*B N"], Bool[Tensor, "*B N"]]:
    """1 / depth at points between the pixels, and whether it is known there: where not, it is finite and means nothing.

    Read bilinearly: the inverse depth of a plane is affine in the pixel, so that this is exact on planes. Unknown are
    points outside of the map, beside a pixel whose depth is not above 0 (or not finite), and on an edge of depth, where
    nobody knows on which side they lie. Piecewise differentiable with respect to the points.

    >>> depth = torch.full((4, 5), 2.0)
    >>> inverse_depth_at(depth, torch.tensor([[1.5, 2.0], [7.0, 2.0]]))
    (tensor([0.5000, 0.5000]), tensor([ True, False]))

    Args:
        depth: Along the optical axis at the centres of pixels; it broadcasts against the points.
    """
    height, width = depth.shape[-2:]
    smallest = torch.finfo(depth.dtype).tiny  # 1 / depth of a denormal number would be infinite
    measured = (depth >= smallest) & depth.isfinite()
    inverse = (1 / torch.where(measured, depth, 1.0)).flatten(-2)
    measured = measured.flatten(-2)
    # A point on the last row or column reads the cell before it, whose far side that is.
    x, y = xy_px.unbind(-1)
    column = x.detach().floor().clamp(0, max(width - 2, 0)).nan_to_num(0.0)
    row = y.detach().floor().clamp(0, max(height - 2, 0)).nan_to_num(0.0)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    across, down = torch.where(inside, x, column) - column, torch.where(inside, y, row) - row
    batch = torch.broadcast_shapes(depth.shape[:-2], xy_px.shape[:-2])
    inverse, measured = (values.expand(*batch, -1) for values in (inverse, measured))
    value, low, high, known = 0.0, torch.inf, -torch.inf, inside
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        index = (
            ((row + min(dy, height - 1)) * width + column + min(dx, width - 1)).long().expand(*batch, xy_px.shape[-2])
        )
        tap = inverse.gather(-1, index)
        known = known & measured.gather(-1, index)
        value = value + tap * (across if dx else 1 - across) * (down if dy else 1 - down)
        low, high = tap.clamp_max(low), tap.clamp_min(high)
    return value, known & (high - low < SMOOTH * high)


def transferred_points(
    x1: Float[Tensor, "*#B N 2"],
    inverse_depth1: Float[Tensor, "*#B N"],
    R: Float[Tensor, "*#B 3 3"],
    t: Float[Tensor, "*#B 3"],
) -> tuple[Float[Tensor, "*B N 2"], Float[Tensor, "*B N"]]:
    """(where the second camera sees points of the first, their inverse depth there, at most 0 behind the camera).

    With w = 1/z, ``p = R (x1, 1) + w t`` is seen at ``(p_x, p_y) / p_z`` with the inverse depth ``w / p_z``. Both are
    finite wherever p_z is.

    Args:
        x1: Normalised.
        t: In the unit of the depth.
    """
    # Written out: a matrix product may be rounded to TF32 on a GPU.
    x, y = x1.unbind(-1)
    px, py, pz = (
        R[..., row, 0, None] * x + R[..., row, 1, None] * y + R[..., row, 2, None] + inverse_depth1 * t[..., row, None]
        for row in range(3)
    )
    in_front = pz > 1e-6
    safe = torch.where(in_front, pz, 1.0)
    inverse = torch.where(in_front, inverse_depth1 / safe, torch.zeros_like(pz))
    return torch.stack([px / safe, py / safe], dim=-1), inverse
