"""Scenes in batches: solids, the textures on their surfaces, and the light."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.synthetic.held_out_layouts import HELD_OUT
from rfp.data.synthetic.layouts import BOX_SLOTS, NUM_SOLIDS, TRAINING, Layout
from rfp.data.synthetic.solids import Solids
from rfp.data.synthetic.uniforms import Uniforms

FACES = 6
"""Surfaces of a solid: two for each axis of a box; of a round its side (0) and the caps of a cylinder (4, 5)."""
UNIFORMS_PER_LAYOUT = 320
UNIFORMS_PER_SCENE = 8 + NUM_SOLIDS * FACES * 16


@dataclass(frozen=True)
class Surfaces:
    """How each of the n = solids × faces surfaces of B scenes is painted; (p, q) are a surface's own coordinates.

    Two textures are laid over each other: a coarse one that spans the surface once, and a fine one, the same or
    another, ``repeats`` times as dense: structure at many scales, and no two places alike.
    """

    uv: Float[Tensor, "*B n 4"]
    """The rows of M in (u, v) = M (p, q) + offset, in periods of the coarse texture."""
    offset: Float[Tensor, "*B n 2"]
    repeats: Float[Tensor, "*B n"]
    """Periods of the fine texture in one of the coarse; an integer, so that textures close around a cylinder."""
    coarse: Float[Tensor, "*B n"]
    """Place in the bank."""
    fine: Float[Tensor, "*B n"]
    coarse_weight: Float[Tensor, "*B n"]
    contrast: Float[Tensor, "*B n"]
    tint: Float[Tensor, "*B n 3"]
    glow: Float[Tensor, "*B n"]
    """1 for a sky, which is as bright wherever the light is; else 0."""
    density: Float[Tensor, "*B n"]
    """Periods of the coarse texture in a metre, for the choice of mip level."""


@dataclass(frozen=True)
class Scenes:
    """B scenes; ``layout`` says which of the names each is."""

    solids: Solids
    surfaces: Surfaces
    scale: Float[Tensor, "*B"]
    """The distance from which a scene is seen, in metres."""
    light: Float[Tensor, "*B 3"]
    """Where the lamp is, in metres; a sun is far away."""
    ambient: Float[Tensor, "*B"]
    """Share of light that comes from all around."""
    power: Float[Tensor, "*B"]
    """Of the light itself, which a square surface receives as ``power / (1 + falloff · distance²)``."""
    falloff: Float[Tensor, "*B"]
    layout: Int[Tensor, "*B"]


def draw_layouts(names: Sequence[str], choice: Int[Tensor, "B"], uniforms: Float[Tensor, "B Q"]) -> Layout:
    """Scene b in layout ``names[choice[b]]``. All layouts are drawn, from the same uniforms, and one of them taken."""
    known = {**TRAINING, **HELD_OUT}
    drawn = [known[name](Uniforms(uniforms)) for name in names]
    return _choose(drawn, choice)


def _choose(records: list, choice: Int[Tensor, "B"]):
    """The record whose tensors are, row by row, those of the record chosen for the row."""

    def chosen(name):
        values = [getattr(record, name) for record in records]
        if not isinstance(values[0], Tensor):
            return _choose(values, choice)
        stacked = torch.stack(values, dim=1)
        index = choice.reshape(-1, *([1] * (stacked.ndim - 1))).expand(-1, 1, *stacked.shape[2:])
        return stacked.gather(1, index)[:, 0]

    return type(records[0])(**{field.name: chosen(field.name) for field in fields(records[0])})


def draw_scenes(layout: Layout, choice: Int[Tensor, "B"], num_textures: int, u: Uniforms) -> Scenes:
    """The layouts with textures on every surface, and light."""
    ambient = u.between(0.35, 0.65)
    return Scenes(
        solids=layout.solids,
        surfaces=draw_surfaces(layout, num_textures, u),
        scale=layout.scale,
        light=_draw_light(layout, u),
        ambient=ambient,
        power=2.6 - 0.6 * layout.outdoor,
        falloff=0.1 * (1 - layout.outdoor),
        layout=choice,
    )


def _draw_light(layout: Layout, u: Uniforms) -> Float[Tensor, "B 3"]:
    """A lamp below the ceiling of a room, or a sun in front of the houses."""
    half = layout.solids.half[:, 0]
    across, along, up = u.between(-0.7, 0.7), u.between(-0.8, 0.3), u.between(0.5, 1.0)
    lamp = torch.stack((across * half[:, 0], along * half[:, 1], 2 * half[:, 2] * (0.6 + 0.35 * up)), dim=-1)
    sun = 1e3 * torch.stack((across, along - 0.3, up), dim=-1)
    return torch.lerp(lamp, sun, layout.outdoor[:, None])


def draw_surfaces(layout: Layout, num_textures: int, u: Uniforms) -> Surfaces:
    """Paint for every face of every solid: textures, their scale, direction and place, tint and contrast."""
    half = layout.solids.half
    batch = half.shape[0]
    n = NUM_SOLIDS * FACES
    scale = layout.scale[:, None]

    # Half extents of each face along its own coordinates: (y, z) on x faces, (x, z) on y faces, (x, y) on z faces.
    side_p = torch.stack((half[..., 1], half[..., 0], half[..., 0]), dim=-1)
    side_q = torch.stack((half[..., 2], half[..., 2], half[..., 1]), dim=-1)
    side_p, side_q = (side.repeat_interleave(2, dim=-1).reshape(batch, n) for side in (side_p, side_q))
    extent = 2 * torch.maximum(side_p, side_q)
    period = torch.minimum(extent * u.log_between(1.0, 1.6, n), scale * u.log_between(1.2, 3.5, n))
    fine_period = scale * u.log_between(0.25, 1.0, n)
    repeats = (period / fine_period).round().clamp(1, 12)
    angle = u.choice(4, n) * (torch.pi / 2) + u.between(-0.15, 0.15, n)
    cosine, sine = torch.cos(angle) / period, torch.sin(angle) / period
    planar = torch.stack((cosine * side_p, sine * side_q, -sine * side_p, cosine * side_q), dim=-1)

    # A round's coordinates are (angle around / π, height or latitude), each in [-1, 1].
    radius = (half[..., 0] + half[..., 1]).repeat_interleave(FACES, dim=-1) / 2
    around = (2 * torch.pi * radius / period).round().clamp(1, 8)
    upward = torch.pi * radius / around
    zero = torch.zeros_like(around)
    tall = half[..., 2].repeat_interleave(FACES, dim=-1)
    wrapped = torch.stack((around / 2, zero, zero, tall / (2 * upward)), dim=-1)
    solid, face = torch.arange(n, device=half.device) // FACES, torch.arange(n, device=half.device) % FACES
    is_side = (solid > BOX_SLOTS) & (face == 0)
    uv = torch.where(is_side[:, None], wrapped, planar)

    sky = ((solid == 0) & (face == FACES - 1)).to(half.dtype) * layout.outdoor[:, None]
    ground = ((solid == 0) & (face < FACES - 1)).to(half.dtype) * layout.outdoor[:, None]
    # Paints are warm or cold rather than green or purple.
    warmth, green = u.between(-0.25, 0.3, n), u.between(0.94, 1.04, n)
    tint = u.log_between(0.45, 1.3, n)[..., None] * torch.stack((1 + warmth, green, 1 - warmth), dim=-1)
    blue = torch.stack((zero + 0.85, zero + 1.05, zero + 1.35), dim=-1) * 1.3
    contrast = u.log_between(0.12, 1.0, n)  # most of what people build is painted rather plainly
    return Surfaces(
        uv=uv,
        offset=u.between(0.0, 1.0, n, 2),
        repeats=repeats,
        coarse=u.choice(num_textures, n).to(half.dtype),
        fine=u.choice(num_textures, n).to(half.dtype),
        coarse_weight=u.between(0.25, 0.9, n),
        contrast=torch.where(sky > 0, 0.25 * contrast, torch.maximum(contrast, 0.35 * ground)),
        tint=torch.lerp(tint, blue, sky[..., None]),
        glow=sky,
        density=torch.where(is_side, 1 / (2 * upward), 1 / period),
    )
