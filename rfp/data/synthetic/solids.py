"""Solids in batches: boxes, ellipsoids and cylinders, each the unit solid of its own frame."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FAR_AWAY_M = 1e4
"""Where slots that a scene does not use are put: beyond every enclosure, so that no ray meets them first."""


@dataclass(frozen=True)
class Solids:
    """n solids of each of B scenes: the points with ``l = axes (X - centre) / half`` in the unit solid.

    The unit solid of a box is ``max |l| ≤ 1``; of a round ``lx² + ly² + closed · lz² ≤ 1`` and ``|lz| ≤ 1``, which is
    an ellipsoid for ``closed = 1`` and a cylinder for 0.
    """

    centre: Float[Tensor, "*B n 3"]
    """Metres; z points up, and the ground is z = 0."""
    half: Float[Tensor, "*B n 3"]
    """Half of the extent along each axis, in metres."""
    axes: Float[Tensor, "*B n 3 3"]
    """Rows: the solid's axes in the world."""
    closed: Float[Tensor, "*B n"]
    """Of a round: 1 for an ellipsoid, 0 for a cylinder. Of a box: unused."""


def upright(
    x: Float[Tensor, "B n"],
    y: Float[Tensor, "B n"],
    base: Float[Tensor, "B n"],
    half: Float[Tensor, "B n 3"],
    yaw: Float[Tensor, "B n"],
    closed: Float[Tensor, "B n"] | None = None,
) -> Solids:
    """Solids that stand at the height ``base``, turned by ``yaw`` about the vertical."""
    centre = torch.stack((x, y, base + half[..., 2]), dim=-1)
    return Solids(centre, half, turn(yaw, 2), torch.zeros_like(x) if closed is None else closed)


def tilted(
    centre: Float[Tensor, "B n 3"],
    half: Float[Tensor, "B n 3"],
    angles: Float[Tensor, "B n 3"],
    closed: Float[Tensor, "B n"] | None = None,
) -> Solids:
    """Solids turned about x, then y, then z by the angles (radians)."""
    rx, ry, rz = (turn(angles[..., axis], axis) for axis in range(3))
    axes = compose(rx, compose(ry, rz))
    return Solids(centre, half, axes, torch.zeros_like(angles[..., 0]) if closed is None else closed)


def turn(angle: Float[Tensor, "*B"], axis: int) -> Float[Tensor, "*B 3 3"]:
    """Rows: the frame turned by the angle about one of its axes."""
    cosine, sine, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rows = [[zero, zero, zero] for _ in range(3)]
    rows[axis][axis] = one
    rows[first][first], rows[first][second] = cosine, sine
    rows[second][first], rows[second][second] = -sine, cosine
    return torch.stack([entry for row in rows for entry in row], dim=-1).unflatten(-1, (3, 3))


def compose(a: Float[Tensor, "*#B 3 3"], b: Float[Tensor, "*#B 3 3"]) -> Float[Tensor, "*B 3 3"]:
    """``a b`` in full float32: a GPU's matmul may round to TF32, which would move points by pixels."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(dim=-2)


def apply(a: Float[Tensor, "*#B 3 3"], x: Float[Tensor, "*#B 3"]) -> Float[Tensor, "*B 3"]:
    """``a x`` in full float32."""
    return (a * x[..., None, :]).sum(dim=-1)


def keep(solids: Solids, wanted: Bool[Tensor, "B n"]) -> Solids:
    """The solids, those that are not wanted put far away."""
    centre = torch.where(wanted[..., None], solids.centre, torch.full_like(solids.centre, FAR_AWAY_M))
    return Solids(centre, solids.half, solids.axes, solids.closed)


def gather_slots(parts: list[Solids], slots: int) -> Solids:
    """The solids of all parts in one row of slots, the slots left over filled with solids far away."""
    count = sum(part.centre.shape[-2] for part in parts)
    if count > slots:
        raise ValueError(f"expected at most {slots} solids of a kind in a layout, got {count}")
    first = parts[0]
    batch, spare = first.centre.shape[0], slots - count
    ones = first.centre.new_ones(batch, spare)
    half = ones[..., None].expand(batch, spare, 3)
    axes = torch.eye(3, device=ones.device, dtype=ones.dtype).expand(batch, spare, 3, 3)
    parts = [*parts, Solids(half * FAR_AWAY_M, half, axes, torch.zeros_like(ones))]
    return Solids(
        centre=torch.cat([part.centre for part in parts], dim=-2),
        half=torch.cat([part.half for part in parts], dim=-2),
        axes=torch.cat([part.axes for part in parts], dim=-3),
        closed=torch.cat([part.closed for part in parts], dim=-1),
    )


def clearance(solids: Solids, X: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B"]:
    """A lower bound of the distance from X to the nearest surface in metres, negative inside a solid.

    Rounds are measured by their bounding boxes. Solid 0 is the enclosure, which X should be inside of.
    """
    offset = apply(solids.axes, X[..., None, :] - solids.centre).abs() - solids.half
    outside = torch.linalg.vector_norm(offset.clamp(min=0), dim=-1)
    distance = outside + offset.amax(dim=-1).clamp(max=0)
    return torch.minimum(distance[..., 1:].amin(dim=-1), -distance[..., 0])
