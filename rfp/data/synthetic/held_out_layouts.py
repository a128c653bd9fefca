"""Layouts that training does not draw: stairs, a colonnade, a corridor, a relief."""

import torch
from torch import Tensor

from rfp.data.synthetic.layouts import Layout, LayoutFunction, assemble, enclosure, points, sizes
from rfp.data.synthetic.solids import upright
from rfp.data.synthetic.uniforms import Uniforms


def steps_along(count: int, like: Tensor) -> Tensor:
    """0 … count - 1 as a row of floats."""
    return torch.arange(count, device=like.device, dtype=like.dtype)[None].expand(like.shape[0], count)


def stairs(u: Uniforms) -> Layout:
    """Steps that climb away between two low walls with balusters, to a landing with a wall behind."""
    half = points(u.between(3.0, 5.0), u.between(5.0, 7.0), u.between(2.5, 4.0))
    zero = torch.zeros_like(half[:, :1])
    index = steps_along(9, zero)
    tread, rise, width = u.between(0.25, 0.4, 1), u.between(0.12, 0.2, 1), u.between(0.9, 1.8, 1)
    x0 = u.between(-0.6, 0.6, 1)
    y = index * tread
    extent = points(width.expand_as(y), tread.expand_as(y) * 0.5 + 0.02, rise * (index + 1) / 2)
    flight = upright(x0.expand_as(y), y, torch.zeros_like(y), extent, torch.zeros_like(y))
    length, top = 9 * tread / 2, 9 * rise
    wall_half = points(u.between(0.1, 0.3, 2), length.expand(-1, 2), u.between(0.3, 0.8, 2) * (top / 2 + 0.4))
    wall_x = torch.cat((x0 - width - 0.3, x0 + width + 0.3), dim=1)
    walls = upright(wall_x, length.expand(-1, 2), torch.zeros_like(wall_x), wall_half, torch.zeros_like(wall_x))
    blocks = upright(
        u.between(-2.4, 2.4, 4),
        torch.cat((10 * tread + u.between(0.1, 0.8, 2), u.between(-0.6, 2.0, 2)), dim=1),
        torch.cat((top.expand(-1, 2), zero.expand(-1, 2)), dim=1) * u.between(0.0, 1.0, 4),
        sizes(u, 4, (0.3, 0.8), (0.1, 0.4), (0.4, 1.2)),
        u.between(-0.4, 0.4, 4),
    )
    balusters = upright(
        x0 + (width + 0.3) * (1 - 2 * (steps_along(6, zero) % 2)),
        tread * (1 + 1.4 * steps_along(6, zero)),
        2 * wall_half[..., 2].repeat(1, 3),
        sizes(u, 6, (0.06, 0.12), (0.06, 0.12), (0.2, 0.4)),
        u.between(-1.5, 1.5, 6),
        u.chance(0.3, 6).float(),
    )
    zero = zero[:, 0]
    return Layout(
        assemble(enclosure(half), [flight, walls, blocks], [balusters]),
        camera_low=points(zero - 1.5, zero - 4.0, zero + 1.0),
        camera_high=points(zero + 1.5, zero - 1.6, zero + 2.2),
        target_low=points(zero - 0.6, zero + 0.5, zero + 0.3),
        target_high=points(zero + 0.6, zero + 2.5, zero + 1.4),
        scale=zero + 3.5,
        outdoor=u.chance(0.5).float(),
    )


def colonnade(u: Uniforms) -> Layout:
    """Two rows of columns on plinths under beams, before a wall with niches."""
    half = points(u.between(6.0, 9.0), u.between(9.0, 13.0), u.between(4.0, 6.0))
    zero = torch.zeros_like(half[:, :1])
    index = steps_along(6, zero)
    row, place = index % 2, torch.div(index, 2, rounding_mode="floor")
    gap, aisle = u.between(2.0, 3.2, 1), u.between(1.4, 2.6, 1)
    x, y = aisle * (2 * row - 1) + u.between(-0.1, 0.1, 6), gap * place
    radius, height = u.between(0.22, 0.45, 1), u.between(1.1, 1.9, 1)
    plinth, shaft = radius * 1.4, points(radius, radius, height).expand(-1, 6, -1)
    plinths = upright(x, y, torch.zeros_like(x), points(plinth, plinth, zero + 0.15).expand(-1, 6, -1), zero * x)
    columns = upright(x, y, torch.zeros_like(x) + 0.3, shaft, u.between(-1.5, 1.5, 6))
    beam_x = torch.cat((-aisle, aisle), dim=1)
    beam_half = points(plinth, gap * 1.5, u.between(0.2, 0.4, 1)).expand(-1, 2, -1)
    beams = upright(beam_x, gap.expand(-1, 2), (0.3 + 2 * height).expand(-1, 2), beam_half, torch.zeros_like(beam_x))
    wall_y = 3 * gap + u.between(0.5, 2.5, 1)
    niches = upright(
        u.between(-1.0, 1.0, 5) * (aisle + 1.5),
        wall_y - u.between(0.0, 0.5, 5),
        u.between(0.0, 1.5, 5),
        sizes(u, 5, (0.5, 1.3), (0.1, 0.3), (0.5, 1.4)),
        u.between(-0.2, 0.2, 5),
    )
    wall = upright(zero, wall_y + 0.6, zero, points(zero + 6.0, zero + 0.2, u.between(1.5, 3.0, 1)), zero)
    zero, aisle = zero[:, 0], aisle[:, 0]
    return Layout(
        assemble(enclosure(half), [plinths, beams, niches, wall], [columns]),
        camera_low=points(-1.6 * aisle, zero - 6.0, zero + 1.2),
        camera_high=points(1.6 * aisle, zero - 3.0, zero + 2.4),
        target_low=points(-0.5 * aisle, zero + 2.0, zero + 1.0),
        target_high=points(0.5 * aisle, zero + 6.0, zero + 2.2),
        scale=zero + 6.0,
        outdoor=zero + 1.0,
    )


def corridor(u: Uniforms) -> Layout:
    """A long passage with doors, pilasters and cabinets along both walls."""
    half = points(u.between(1.1, 1.8), u.between(5.0, 8.0), u.between(1.2, 1.6))
    width, depth = half[:, :1], half[:, 1:2]
    side = 1 - 2 * (steps_along(10, width) % 2)
    along = -0.4 * depth + depth * 0.15 * (steps_along(10, width) + u.between(-0.4, 0.4, 10))
    size = sizes(u, 10, (0.05, 0.2), (0.2, 0.6), (0.4, 1.1))
    fixtures = upright(side * (width - size[..., 0]), along, size[..., 0] * 0, size, torch.zeros_like(along))
    doors = upright(
        (1 - 2 * (steps_along(4, width) % 2)) * (width - 0.02),
        u.between(-0.4, 1.0, 4) * depth,
        u.between(0.0, 0.6, 4),
        sizes(u, 4, (0.03, 0.05), (0.3, 0.6), (0.4, 0.9)),
        u.between(-0.02, 0.02, 4),
    )
    end = upright(
        u.between(-0.4, 0.4, 1) * width,
        depth - u.between(0.1, 1.0, 1),
        u.between(0.0, 0.5, 1),
        sizes(u, 1, (0.4, 0.9), (0.05, 0.3), (0.5, 0.9)),
        u.between(-0.3, 0.3, 1),
    )
    pots = upright(
        (1 - 2 * (steps_along(6, width) % 2)) * (width - 0.35),
        u.between(-0.5, 0.9, 6) * depth,
        torch.zeros_like(side[:, :6]),
        sizes(u, 6, (0.1, 0.25), (0.1, 0.25), (0.15, 0.5)),
        u.between(-1.5, 1.5, 6),
        u.chance(0.4, 6).float(),
    )
    width, depth, zero = width[:, 0], depth[:, 0], torch.zeros_like(half[:, 0])
    return Layout(
        assemble(enclosure(half), [fixtures, doors, end], [pots]),
        camera_low=points(-0.5 * width, -0.9 * depth, zero + 0.9),
        camera_high=points(0.5 * width, -0.4 * depth, zero + 1.7),
        target_low=points(-0.6 * width, zero, zero + 0.6),
        target_high=points(0.6 * width, 0.6 * depth, zero + 1.4),
        scale=zero + 3.5,
        outdoor=zero,
    )


def relief(u: Uniforms) -> Layout:
    """A wall of blocks and bosses that stand out by different depths, like a carved front."""
    half = points(u.between(3.0, 4.5), u.between(3.0, 4.0), u.between(1.8, 2.6))
    zero = torch.zeros_like(half[:, :1])
    index = steps_along(15, zero)
    column, row = index % 5, torch.div(index, 5, rounding_mode="floor")
    pitch = u.between(0.7, 0.95, 1)
    x = (column - 2) * pitch + u.between(-0.12, 0.12, 15)
    base = row * pitch + u.between(-0.1, 0.1, 15)
    deep = u.between(0.05, 0.7, 15)
    block = points(pitch * u.between(0.3, 0.52, 15), deep, pitch * u.between(0.3, 0.52, 15))
    blocks = upright(x, 1.2 - deep, base, block, u.between(-0.12, 0.12, 15))
    bosses = upright(
        u.between(-2.0, 2.0, 6) * pitch,
        u.between(0.2, 0.9, 6),
        u.between(0.1, 2.2, 6),
        sizes(u, 6, (0.12, 0.35), (0.12, 0.35), (0.15, 0.5)),
        u.between(-1.5, 1.5, 6),
        u.chance(0.6, 6).float(),
    )
    zero = zero[:, 0]
    return Layout(
        assemble(enclosure(half), [blocks], [bosses]),
        camera_low=points(zero - 1.6, zero - 2.6, zero + 0.7),
        camera_high=points(zero + 1.6, zero - 1.4, zero + 2.0),
        target_low=points(zero - 0.6, zero + 0.3, zero + 0.8),
        target_high=points(zero + 0.6, zero + 0.9, zero + 1.6),
        scale=zero + 3.0,
        outdoor=u.chance(0.3).float(),
    )


HELD_OUT: dict[str, LayoutFunction] = {
    "stairs": stairs,
    "colonnade": colonnade,
    "corridor": corridor,
    "relief": relief,
}
HELD_OUT_LAYOUTS: tuple[str, ...] = tuple(HELD_OUT)
