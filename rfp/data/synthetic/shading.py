"""What the cameras see at given pixels: exact depth, and the light that the surface sends, free of any sensor."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.synthetic.cameras import Cameras, normalized
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.ray_casting import LocalRays, cast, local_rays
from rfp.data.synthetic.scenes import FACES, Scenes, Surfaces
from rfp.data.synthetic.texture_bank import TextureBank, look_up

GREY = 0.45
"""What a surface without contrast looks like, before its tint."""
SHADE, SHADE_HEIGHT = 0.55, 0.05
"""Walls and sides darken towards the ground by this share, over this height (of the scene's scale)."""
LARGEST_STEP, LARGEST_STEP_ON_ROUNDS = 1e-5, 2e-4
"""Of the Newton step on the depth, as a share of it: the packed depth is off by 4e-6, ten times that on rounds."""

CPU_PIXELS = 76_800
"""Shaded at once on a CPU, an image of 240 × 320: more leave its caches, fewer pay for more calls."""
DEVICE_PIXELS = 2**22
"""Shaded at once elsewhere: about 1 GB."""


@dataclass(frozen=True)
class Seen:
    """What V views see at N pixels each."""

    depth: Float[Tensor, "V N"]
    surface: Int[Tensor, "V N"]
    """solid × 6 + face."""
    radiance: Float[Tensor, "V 3 N"]
    """Linear light."""


def see(scenes: Scenes, cameras: Cameras, bank: TextureBank, xy_px: Float[Tensor, "#V N 2"]) -> Seen:
    """Depth, surface and light at pixels of one camera of each scene; any pixels, between centres too."""
    rays = local_rays(scenes.solids, cameras)
    x, y = normalized(cameras, xy_px)
    packed_depth, solid = cast(rays, x, y)
    return shade(scenes, cameras, rays, bank, x, y, packed_depth, solid)


def shade(
    scenes: Scenes,
    cameras: Cameras,
    rays: LocalRays,
    bank: TextureBank,
    x: Float[Tensor, "V N"],
    y: Float[Tensor, "V N"],
    depth: Float[Tensor, "V N"],
    solid: Int[Tensor, "V N"],
) -> Seen:
    """The second half of ``see``: what is at the depths that ``cast`` found."""
    views, n = rays.origin.shape[:2]
    first = torch.arange(views, device=depth.device, dtype=torch.int32)[:, None]
    pixel = (1 / cameras.K[:, 0, 0, None]).expand_as(depth)
    inputs = [value.flatten() for value in (x, y, depth, pixel, solid + first * n)]
    seen_depth, surface = (torch.empty_like(inputs[0]), torch.empty_like(inputs[4]))
    radiance = torch.empty_like(seen_depth)[None].expand(3, -1).contiguous()
    tables = _solid_table(scenes, rays), _surface_table(scenes.surfaces)
    at_once = CPU_PIXELS if depth.device.type == "cpu" else DEVICE_PIXELS
    for start in range(0, depth.numel(), at_once):
        part = slice(start, start + at_once)
        results = _shade_pixels(*tables, bank, *(value[part] for value in inputs))
        seen_depth[part], surface[part] = results[:2]
        for channel in range(3):
            radiance[channel, part] = results[2][channel]
    surface = surface.reshape(depth.shape) - first * (n * FACES)
    return Seen(seen_depth.reshape(depth.shape), surface, radiance.reshape(3, views, -1).transpose(0, 1))


def _shade_pixels(
    solid_table: Tensor,
    surface_table: Tensor,
    bank: TextureBank,
    x: Float[Tensor, "N"],
    y: Float[Tensor, "N"],
    depth: Float[Tensor, "N"],
    pixel: Float[Tensor, "N"],
    at_solid: Int[Tensor, "N"],
) -> tuple[Float[Tensor, "N"], Int[Tensor, "N"], list[Tensor]]:
    """Depth, place of the surface in its table, and red, green and blue light."""
    hit = surface_hits(solid_table, at_solid, x, y, depth)
    at_surface = at_solid * FACES + hit.face.to(torch.int32)
    paint = surface_table.index_select(1, at_surface)
    light = torch.lerp(hit.light, torch.ones_like(hit.light), paint[_GLOW])
    return hit.depth, at_surface, [colour.mul_(light) for colour in _albedo(bank, paint, hit, pixel)]


@dataclass(frozen=True)
class Hits:
    """Where N rays end."""

    depth: Float[Tensor, "N"]
    face: Float[Tensor, "N"]
    p: Float[Tensor, "N"]
    """The surface's own coordinates."""
    q: Float[Tensor, "N"]
    stretch: Float[Tensor, "N"]
    """How many times longer a pixel is on the surface than across the ray, and how much denser the texture there."""
    light: Float[Tensor, "N"]


def _solid_table(scenes: Scenes, rays: LocalRays) -> Float[Tensor, "31 Vn"]:
    """What shading needs to know about a solid of a view: a column for each."""
    solids = scenes.solids
    views, n = solids.closed.shape
    to_light = scenes.light[:, None] - solids.centre
    light = (solids.axes * to_light[..., None, :]).sum(dim=-1) / solids.half
    is_round = (torch.arange(n, device=solids.half.device) > BOX_SLOTS).to(solids.half.dtype)

    def everywhere(value: Float[Tensor, "V"]) -> Float[Tensor, "V n 1"]:
        return value[:, None, None].expand(views, n, 1)

    columns = (
        rays.origin,
        rays.direction.flatten(-2),
        solids.half,
        1 / solids.half,
        light,
        solids.axes[..., 2],
        solids.centre[..., 2:] / (SHADE_HEIGHT * scenes.scale[:, None, None]),
        1 / (SHADE_HEIGHT * scenes.scale[:, None, None]).expand(views, n, 1),
        is_round[None, :, None].expand(views, n, 1),
        solids.closed[..., None],
        everywhere(scenes.ambient),
        everywhere((1 - scenes.ambient) * scenes.power),
        everywhere(scenes.falloff),
    )
    return torch.cat(columns, dim=-1).reshape(views * n, -1).T.contiguous()


def surface_hits(
    table: Float[Tensor, "rows Vn"],
    at_solid: Int[Tensor, "N"],
    x: Float[Tensor, "N"],
    y: Float[Tensor, "N"],
    depth: Float[Tensor, "N"],
) -> Hits:
    """The place, normal and light of each ray's end, in the frame of the solid that it ends at.

    There, faces of boxes and quadrics are one: ``F = w·l² - 1 = 0`` with the gradient 2 g, ``g = w l``; w is (1, 1,
    closed) for a round, and 1 on the axis of a face.
    """
    rows = table.index_select(1, at_solid).unbind()
    d = [rows[3 + 3 * k].mul_(x).add_(rows[4 + 3 * k].mul_(y)).add_(rows[5 + 3 * k]) for k in range(3)]
    l = [rows[k].addcmul_(depth, d[k]) for k in range(3)]  # noqa: E741
    half, inverse_half, lamp, vertical = (rows[start : start + 3] for start in (12, 15, 18, 21))
    ground, per_height, is_round, closed, ambient, power, falloff = rows[24:]

    w, smooth = _weights(l, is_round, closed)
    g = [w[k] * l[k] for k in range(3)]
    ahead = _dot(g, d)
    ahead = torch.where(ahead.abs() > 1e-12, ahead, 1e-12)
    step = (1 - _dot(g, l)).div_(2 * ahead)  # Newton's: F / F′ with F′ = 2 g·d
    limit = smooth.mul(LARGEST_STEP_ON_ROUNDS).add_(LARGEST_STEP).mul_(depth)
    step = torch.maximum(torch.minimum(step, limit), limit.neg_())
    l = [l[k].addcmul_(step, d[k]) for k in range(3)]  # noqa: E741

    p, q, girth = _coordinates(l, w, smooth, closed)
    positive = (_dot(w, l) > 0).to(depth.dtype)
    face = (2 * w[1] + 4 * w[2]).add_(positive).mul_(1 - smooth)

    normal = [g[k].mul(inverse_half[k]) for k in range(3)]
    length = _dot(normal, normal).sqrt_().clamp_(min=1e-12)
    facing = ahead.sign().neg_().div_(length)
    incidence = ahead.abs_().div_((x * x).add_(y * y).add_(1).sqrt_().mul_(length))
    stretch = incidence.clamp_(min=0.02).sqrt_().mul_(girth).reciprocal_()

    to_light = [lamp[k].sub_(l[k]) for k in range(3)]
    diffuse = _dot(g, to_light).mul_(facing).clamp_(min=0)
    distance = [to_light[k].mul_(half[k]) for k in range(3)]
    square = _dot(distance, distance).clamp_(min=1e-6)
    diffuse = diffuse.mul_(power).mul_(square.rsqrt()).div_(falloff.mul_(square).add_(1))
    upward = _dot(normal, vertical).mul_(facing)
    height = _dot(vertical, [l[k].mul_(half[k]) for k in range(3)]).mul_(per_height).add_(ground)
    shade = height.clamp_(min=0).neg_().exp_().mul_(SHADE).mul_(1 - upward.clamp(min=0))
    light = upward.mul_(0.3).add_(0.7).mul_(ambient).add_(diffuse).mul_(1 - shade)
    return Hits(depth + step, face, p, q, stretch, light)


def _dot(a, b) -> Float[Tensor, "N"]:
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


def _weights(l, is_round, closed):  # noqa: E741
    """w of ``F = w·l² - 1``, and whether the surface is a curved one (the caps of a cylinder are faces)."""
    x, y, z = (value.abs() for value in l)
    on_x = ((x >= y) & (x >= z)).to(x.dtype)
    on_y = (y >= z).to(x.dtype).mul_(1 - on_x)
    mantle = (x * x).addcmul_(y, y) > z * z
    smooth = torch.maximum(closed, mantle.to(x.dtype)).mul_(is_round)
    on_z = torch.lerp(1 - on_x - on_y, 1 - smooth + smooth * closed, is_round)
    return (torch.lerp(on_x, smooth, is_round), torch.lerp(on_y, smooth, is_round), on_z), smooth


def _coordinates(l, w, smooth, closed):  # noqa: E741
    """(p, q): the two other axes of a face; or the angle around and the height or latitude of a round. And its girth.

    The girth is the way around there, as a share of the largest: below 1 towards the poles of an ellipsoid.
    """
    circle = (l[0] * l[0]).addcmul_(l[1], l[1]).sqrt_()
    around = torch.atan2(l[1], l[0]).mul_(1 / torch.pi)
    latitude = torch.atan2(l[2], circle).mul_(2 / torch.pi)
    p = torch.lerp(l[0], l[1], w[0])
    q = torch.lerp(l[2], l[1], w[2])
    p = torch.lerp(p, around, smooth)
    q = torch.lerp(q, torch.lerp(l[2], latitude, closed), smooth)
    girth = circle.clamp_(min=0.05).sub_(1).mul_(closed).mul_(smooth).add_(1)
    return p, q, girth


_GLOW = 14


def _surface_table(surfaces: Surfaces) -> Float[Tensor, "16 Vn"]:
    columns = (
        surfaces.uv,
        surfaces.offset,
        *(value[..., None] for value in (surfaces.repeats, surfaces.coarse, surfaces.fine)),
        *(value[..., None] for value in (surfaces.coarse_weight, surfaces.contrast)),
        surfaces.tint,
        *(value[..., None] for value in (surfaces.glow, surfaces.density)),
    )
    return torch.cat(columns, dim=-1).flatten(0, 1).T.contiguous()


def _albedo(bank: TextureBank, paint: Float[Tensor, "16 N"], hit: Hits, pixel: Float[Tensor, "N"]) -> list[Tensor]:
    """Linear reflectances: the fine texture, modulated by the coarse one, brought to the contrast and tint."""
    uv, (u0, v0, repeats, coarse, fine, weight, contrast), tint = paint[:4], paint[4:11], paint[11:14]
    u = (uv[0] * hit.p).addcmul_(uv[1], hit.q).add_(u0)
    v = (uv[2] * hit.p).addcmul_(uv[3], hit.q).add_(v0)
    # Texels of the coarse texture under a pixel; tilted surfaces half way between blur and aliasing.
    texels = (paint[15] * hit.depth).mul_(pixel).mul_(hit.stretch).mul_(bank.size)
    lod = texels.clamp_(min=1e-6).log2_()
    large = look_up(bank, coarse, u, v, lod, between_levels=False)
    lod = lod.add_(repeats.log2())
    small = look_up(bank, fine, u.mul_(repeats), v.mul_(repeats), lod, between_levels=True)
    one, two, grey = 1 - weight, 2 * weight, (1 - contrast).mul_(GREY)
    return [
        small[k].mul_(large[k].mul_(two).add_(one)).mul_(contrast).add_(grey).square_().mul_(tint[k]) for k in range(3)
    ]
