"""Layouts of scenes: where the solids stand and where a camera may, a function each, of a row of uniforms a scene."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.solids import Solids, gather_slots, keep, tilted, upright
from rfp.data.synthetic.uniforms import Uniforms

BOX_SLOTS = 15
ROUND_SLOTS = 6
NUM_SOLIDS = 1 + BOX_SLOTS + ROUND_SLOTS
"""The enclosure, which every ray ends at, then boxes, then rounds. At most 32 (ray_casting)."""
CARD_M = 0.01
"""Half the thickness of cards, posters and rugs."""


@dataclass(frozen=True)
class Layout:
    """Solids of B scenes, and the boxes that the first camera and the point it looks at are drawn from."""

    solids: Solids
    camera_low: Float[Tensor, "B 3"]
    camera_high: Float[Tensor, "B 3"]
    target_low: Float[Tensor, "B 3"]
    target_high: Float[Tensor, "B 3"]
    scale: Float[Tensor, "B"]
    """The distance from which the scene is seen, in metres: textures are scaled by it."""
    outdoor: Float[Tensor, "B"]
    """1 where the ceiling of the enclosure is a sky and the light a sun, else 0."""


def points(x, y, z) -> Float[Tensor, "*B 3"]:
    """Vectors from coordinates that broadcast against each other."""
    return torch.stack(torch.broadcast_tensors(x, y, z), dim=-1)


def enclosure(half: Float[Tensor, "B 3"]) -> Solids:
    """The inside of a box on the ground, around the origin."""
    x = torch.zeros_like(half[:, :1])
    return upright(x, x, x, half[:, None], x)


def assemble(around: Solids, boxes: list[Solids], rounds: list[Solids]) -> Solids:
    """All solids of a layout in their slots."""
    boxed, rounded = gather_slots(boxes, BOX_SLOTS), gather_slots(rounds, ROUND_SLOTS)
    return gather_slots([around, boxed, rounded], NUM_SOLIDS)


def sizes(u: Uniforms, count: int, x, y, z) -> Float[Tensor, "B count 3"]:
    """Half extents, each axis log-uniform between its (low, high)."""
    return torch.stack([u.log_between(*limits, count) for limits in (x, y, z)], dim=-1)


def room(u: Uniforms) -> Layout:
    """A room with furniture along the walls, posters, a rug, and things standing on the furniture."""
    half = points(u.between(1.8, 3.2), u.between(2.2, 3.8), u.between(1.25, 1.6))
    width, depth, height = half[:, :1], half[:, 1:2], half[:, 2:]
    pieces = sizes(u, 6, (0.25, 0.7), (0.2, 0.45), (0.2, 0.9))
    x = u.between(-0.9, 0.9, 6) * (width - 0.3)
    y = torch.cat(((depth - 0.45).expand(-1, 3), u.between(-0.1, 0.7, 3) * depth), dim=1)
    furniture = upright(x, y, torch.zeros_like(x), pieces, u.between(-0.35, 0.35, 6))
    posters = sizes(u, 5, (0.2, 0.7), (CARD_M, CARD_M * 1.01), (0.2, 0.5))
    on_back = upright(
        u.between(-0.8, 0.8, 3) * width,
        (depth - CARD_M).expand(-1, 3),
        u.between(0.5, 1.3, 3) * height,
        posters[:, :3],
        torch.zeros_like(x[:, :3]),
    )
    side = torch.cat((width - CARD_M, CARD_M - width), dim=1)
    turned = torch.full_like(side, torch.pi / 2)
    on_side = upright(side, u.between(-0.2, 0.8, 2) * depth, u.between(0.4, 1.2, 2) * height, posters[:, 3:], turned)
    top = 2 * pieces[..., 2]
    small = upright(
        x[:, :3] + u.between(-0.2, 0.2, 3),
        y[:, :3] + u.between(-0.1, 0.1, 3),
        top[:, :3],
        sizes(u, 3, (0.08, 0.2), (0.08, 0.2), (0.08, 0.3)),
        u.between(-1.5, 1.5, 3),
    )
    rug = upright(
        u.between(-0.3, 0.3, 1) * width,
        u.between(-0.1, 0.4, 1) * depth,
        torch.full_like(width, -CARD_M),
        sizes(u, 1, (0.6, 1.3), (0.5, 1.2), (CARD_M, CARD_M * 1.5)),
        u.between(-0.5, 0.5, 1),
    )
    vases = upright(
        x[:, 3:] + u.between(-0.1, 0.1, 3),
        y[:, 3:],
        top[:, 3:],
        sizes(u, 3, (0.08, 0.18), (0.08, 0.18), (0.1, 0.3)),
        u.between(-1.5, 1.5, 3),
        u.chance(0.5, 3).float(),
    )
    on_floor = upright(
        u.between(-0.8, 0.8, 3) * width,
        u.between(0.0, 0.8, 3) * depth,
        torch.zeros_like(x[:, :3]),
        sizes(u, 3, (0.12, 0.35), (0.12, 0.35), (0.15, 0.8)),
        u.between(-1.5, 1.5, 3),
        u.chance(0.5, 3).float(),
    )
    solids = assemble(enclosure(half), [furniture, on_back, on_side, small, rug], [vases, on_floor])
    return Layout(
        solids,
        camera_low=points(-0.7 * width, -0.9 * depth, width * 0 + 1.0)[:, 0],
        camera_high=points(0.7 * width, -0.3 * depth, width * 0 + 1.8)[:, 0],
        target_low=points(-0.6 * width, 0.3 * depth, width * 0 + 0.4)[:, 0],
        target_high=points(0.6 * width, depth, width * 0 + 1.3)[:, 0],
        scale=half[:, 1],
        outdoor=torch.zeros_like(half[:, 0]),
    )


def street(u: Uniforms) -> Layout:
    """Houses along both sides and across the end of a street, with crates, cars, posts and bushes."""
    half = points(u.between(18.0, 30.0), u.between(30.0, 45.0), u.between(9.0, 14.0))
    houses = sizes(u, 7, (2.0, 4.0), (2.5, 4.5), (2.0, 6.0))
    side = u.between(3.5, 7.0, 1)
    left_right = torch.cat((-side - houses[:, :3, 0], side + houses[:, 3:6, 0], u.between(-3.0, 3.0, 1)), dim=1)
    along = torch.arange(3, device=side.device) * 8.0 + u.between(-5.0, 3.0, 1)
    y = torch.cat((along, along + u.between(-3.0, 3.0, 1), u.between(16.0, 26.0, 1)), dim=1)
    rows = upright(left_right, y, torch.zeros_like(y), houses, u.between(-0.12, 0.12, 7))
    crates = upright(
        u.between(-1.0, 1.0, 6) * (side + 0.5),
        u.between(-3.0, 14.0, 6),
        torch.zeros_like(y[:, :6]),
        sizes(u, 6, (0.4, 1.2), (0.4, 1.8), (0.4, 1.1)),
        u.between(-0.8, 0.8, 6),
    )
    signs = upright(
        u.between(-0.8, 0.8, 2) * side,
        u.between(0.0, 10.0, 2),
        u.between(1.0, 2.5, 2),
        sizes(u, 2, (0.5, 1.3), (CARD_M, 0.05), (0.3, 0.9)),
        u.between(-0.7, 0.7, 2),
    )
    posts = upright(
        u.between(-1.0, 1.0, 3) * side,
        u.between(-2.0, 14.0, 3),
        torch.zeros_like(y[:, :3]),
        sizes(u, 3, (0.12, 0.4), (0.12, 0.4), (1.2, 3.0)),
        u.between(-1.5, 1.5, 3),
    )
    bushes = upright(
        u.between(-1.2, 1.2, 3) * side,
        u.between(0.0, 14.0, 3),
        u.between(-0.5, 0.0, 3),
        sizes(u, 3, (0.5, 1.4), (0.5, 1.4), (0.5, 1.3)),
        u.between(-1.5, 1.5, 3),
        torch.ones_like(y[:, :3]),
    )
    zero = torch.zeros_like(side)
    return Layout(
        assemble(enclosure(half), [rows, crates, signs], [posts, bushes]),
        camera_low=points(-0.6 * side, zero - 11.0, zero + 1.3)[:, 0],
        camera_high=points(0.6 * side, zero - 4.0, zero + 3.5)[:, 0],
        target_low=points(-0.7 * side, zero + 6.0, zero + 0.8)[:, 0],
        target_high=points(0.7 * side, zero + 16.0, zero + 3.5)[:, 0],
        scale=u.between(7.0, 11.0),
        outdoor=torch.ones_like(half[:, 0]),
    )


def cards(u: Uniforms) -> Layout:
    """Cards at several depths that face many ways, before the walls of a hall."""
    half = points(u.between(3.0, 5.0), u.between(4.0, 6.0), u.between(1.8, 3.0))
    count = BOX_SLOTS
    centre = points(
        u.between(-2.4, 2.4, count), u.between(-0.8, 3.6, count), 0.2 + half[:, 2:] * u.between(0.1, 1.6, count)
    )
    flat = sizes(u, count, (0.3, 0.9), (CARD_M, 0.04), (0.3, 0.9))
    angles = points(u.between(-0.6, 0.6, count), u.between(-0.5, 0.5, count), u.between(-0.9, 0.9, count))
    balls = tilted(
        points(u.between(-2.0, 2.0, 3), u.between(0.0, 3.0, 3), u.between(0.3, 3.0, 3)),
        sizes(u, 3, (0.2, 0.5), (0.2, 0.5), (0.2, 0.5)),
        u.between(-1.0, 1.0, 3, 3),
        u.chance(0.6, 3).float(),
    )
    solids = assemble(enclosure(half), [keep(tilted(centre, flat, angles), u.chance(0.75, count))], [balls])
    zero, height = torch.zeros_like(half[:, 0]), half[:, 2]
    return Layout(
        solids,
        camera_low=points(zero - 1.5, -0.85 * half[:, 1], 0.6 * height),
        camera_high=points(zero + 1.5, -0.5 * half[:, 1], 1.4 * height),
        target_low=points(zero - 1.2, zero, 0.7 * height),
        target_high=points(zero + 1.2, zero + 3.0, 1.3 * height),
        scale=half[:, 1],
        outdoor=zero,
    )


def curved(u: Uniforms) -> Layout:
    """Large balls, drums and eggs on the floor and on pedestals, with boxes and panels behind."""
    half = points(u.between(2.5, 4.0), u.between(3.0, 4.5), u.between(1.4, 2.2))
    pedestals = upright(
        u.between(-1.8, 1.8, 5),
        u.between(0.0, 2.4, 5),
        torch.zeros_like(half[:, :1]).expand(-1, 5),
        sizes(u, 5, (0.25, 0.5), (0.25, 0.5), (0.1, 0.6)),
        u.between(-0.8, 0.8, 5),
    )
    panels = upright(
        u.between(-2.2, 2.2, 5),
        half[:, 1:2] - u.between(0.05, 0.8, 5),
        u.between(-0.3, 0.8, 5),
        sizes(u, 5, (0.3, 0.9), (CARD_M, 0.08), (0.3, 1.0)),
        u.between(-0.5, 0.5, 5),
    )
    standing = upright(
        u.between(-1.8, 1.8, 3),
        u.between(-0.3, 2.2, 3),
        torch.zeros_like(half),
        sizes(u, 3, (0.25, 0.7), (0.25, 0.7), (0.3, 0.9)),
        u.between(-1.5, 1.5, 3),
        u.chance(0.5, 3).float(),
    )
    raised = upright(
        pedestals.centre[:, :3, 0],
        pedestals.centre[:, :3, 1],
        2 * pedestals.half[:, :3, 2],
        sizes(u, 3, (0.2, 0.45), (0.2, 0.45), (0.2, 0.5)),
        u.between(-1.5, 1.5, 3),
        u.chance(0.6, 3).float(),
    )
    zero = torch.zeros_like(half[:, 0])
    return Layout(
        assemble(enclosure(half), [pedestals, panels], [standing, raised]),
        camera_low=points(zero - 1.5, -0.85 * half[:, 1], zero + 0.7),
        camera_high=points(zero + 1.5, -0.5 * half[:, 1], zero + 1.9),
        target_low=points(zero - 1.0, zero + 0.2, zero + 0.4),
        target_high=points(zero + 1.0, zero + 2.0, zero + 1.2),
        scale=half[:, 1],
        outdoor=zero,
    )


def clutter(u: Uniforms) -> Layout:
    """A table full of small boxes, tins and balls, seen from near."""
    half = points(u.between(1.8, 3.0), u.between(1.8, 3.0), u.between(1.2, 1.6))
    zero = torch.zeros_like(half[:, 0])
    surface = u.between(0.65, 0.85, 1)
    table = tilted(
        points(zero, zero, surface[:, 0])[:, None],
        sizes(u, 1, (0.7, 1.1), (0.5, 0.8), (0.02, 0.03)),
        points(zero, zero, u.between(-0.4, 0.4))[:, None],
    )
    base = surface + table.half[..., 2]
    small = upright(
        u.between(-0.65, 0.65, 12),
        u.between(-0.45, 0.5, 12),
        base.expand(-1, 12),
        sizes(u, 12, (0.04, 0.16), (0.03, 0.13), (0.02, 0.2)),
        u.between(-1.5, 1.5, 12),
    )
    behind = upright(
        u.between(-1.2, 1.2, 2),
        half[:, 1:2] - u.between(0.1, 0.6, 2),
        u.between(0.0, 0.8, 2),
        sizes(u, 2, (0.3, 0.6), (0.02, 0.3), (0.3, 0.6)),
        u.between(-0.4, 0.4, 2),
    )
    tins = upright(
        u.between(-0.6, 0.6, ROUND_SLOTS),
        u.between(-0.4, 0.5, ROUND_SLOTS),
        base.expand(-1, ROUND_SLOTS),
        sizes(u, ROUND_SLOTS, (0.04, 0.12), (0.04, 0.12), (0.04, 0.16)),
        u.between(-1.5, 1.5, ROUND_SLOTS),
        u.chance(0.5, ROUND_SLOTS).float(),
    )
    height = base[:, 0]
    return Layout(
        assemble(enclosure(half), [table, small, behind], [tins]),
        camera_low=points(zero - 0.8, zero - 1.5, height + 0.25),
        camera_high=points(zero + 0.8, zero - 0.9, height + 0.8),
        target_low=points(zero - 0.3, zero - 0.1, height),
        target_high=points(zero + 0.3, zero + 0.3, height + 0.2),
        scale=zero + 1.2,
        outdoor=zero,
    )


LayoutFunction = Callable[[Uniforms], Layout]
TRAINING: dict[str, LayoutFunction] = {
    "room": room,
    "street": street,
    "cards": cards,
    "curved": curved,
    "clutter": clutter,
}
TRAINING_LAYOUTS: tuple[str, ...] = tuple(TRAINING)
