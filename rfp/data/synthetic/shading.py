"""What the cameras see at given pixels: exact depth, and the light that the surface sends, free of any sensor."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.synthetic.cameras import Cameras, normalized
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.ray_casting import LocalRays, cast, local_rays
from rfp.data.synthetic.scenes import FACES, Scenes, Surfaces
from rfp.data.synthetic.solids import apply
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
    """What V views see at some pixels each: (V, N), or (V, h, w) for whole images."""

    depth: Float[Tensor, "V ..."]
    surface: Int[Tensor, "V ..."]
    """solid × 6 + face."""
    radiance: Float[Tensor, "V 3 ..."]
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
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    depth: Float[Tensor, "V ..."],
    solid: Int[Tensor, "V ..."],
) -> Seen:
    """The second half of ``see``: what is at the depths that ``cast`` found. x and y may broadcast, as there."""
    n = rays.origin.shape[1]
    views, length = depth.shape[:2]
    solid_table, surface_table = _solid_table(scenes, rays), _surface_table(scenes.surfaces, cameras, bank)
    view_table = _view_table(scenes, cameras).reshape(-1, views, *([1] * (depth.ndim - 1)))
    seen = Seen(torch.empty_like(depth), torch.empty_like(solid), depth.new_empty(views, 3, *depth.shape[1:]))
    first = torch.arange(views, device=depth.device, dtype=torch.int32).reshape(-1, *([1] * (depth.ndim - 1)))
    at_solid = solid + first * n
    x, y = (value.expand(views, *value.shape[1:]) for value in (x, y))
    at_once = CPU_PIXELS if depth.device.type == "cpu" else DEVICE_PIXELS
    views_at_once = max(1, at_once // depth[0].numel())
    length_at_once = max(1, at_once // (views_at_once * depth[0, 0].numel()))
    for view in range(0, views, views_at_once):
        for start in range(0, length, length_at_once):
            rows, part = slice(view, view + views_at_once), slice(start, start + length_at_once)
            pixels = (value[rows, part if value.shape[1] > 1 else slice(None)] for value in (x, y, depth, at_solid))
            found = _shade_pixels(solid_table, surface_table, view_table[:, rows], bank, *pixels)
            seen.depth[rows, part], seen.surface[rows, part] = found[:2]
            seen.radiance[rows, :, part] = found[2].transpose(0, 1)
    seen.surface.sub_(first * (n * FACES))
    return seen


def _shade_pixels(
    solid_table: Tensor,
    surface_table: Tensor,
    view_table: Tensor,
    bank: TextureBank,
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    depth: Float[Tensor, "*N"],
    at_solid: Int[Tensor, "*N"],
) -> tuple[Float[Tensor, "*N"], Int[Tensor, "*N"], Float[Tensor, "3 *N"]]:
    """Depth, place of the surface in its table, and light."""
    hit = surface_hits(solid_table, view_table, at_solid, x, y, depth)
    at_surface = (at_solid * FACES).add_(hit.face.to(torch.int32))
    paint = _look_up_rows(surface_table, at_surface)
    light = torch.lerp(hit.light, hit.light.new_ones(()), paint[_GLOW])
    return hit.depth, at_surface, _albedo(bank, paint, hit).mul_(light)


def _look_up_rows(table: Float[Tensor, "rows n"], place: Int[Tensor, "*N"]) -> Float[Tensor, "rows *N"]:
    return table.index_select(1, place.flatten()).unflatten(1, place.shape)


@dataclass(frozen=True)
class Hits:
    """Where rays end."""

    depth: Float[Tensor, "*N"]
    face: Float[Tensor, "*N"]
    p: Float[Tensor, "*N"]
    """The surface's own coordinates."""
    q: Float[Tensor, "*N"]
    log_size: Float[Tensor, "*N"]
    """Of a pixel on the surface, to the base 2, where one at a distance of 1 and square to the ray measures 1."""
    light: Float[Tensor, "*N"]


def _solid_table(scenes: Scenes, rays: LocalRays) -> Float[Tensor, "23 Vn"]:
    """What shading needs to know about a solid of a view: a column for each."""
    solids = scenes.solids
    views, n = solids.closed.shape
    to_light = scenes.light[:, None] - solids.centre
    light = (solids.axes * to_light[..., None, :]).sum(dim=-1) / solids.half
    is_round = (torch.arange(n, device=solids.half.device) > BOX_SLOTS).to(solids.half.dtype)
    columns = (
        rays.origin,
        rays.direction.flatten(-2),
        1 / solids.half,
        light,
        solids.axes[..., 2] / solids.half,
        is_round[None, :, None].expand(views, n, 1),
        solids.closed[..., None],
    )
    return torch.cat(columns, dim=-1).reshape(views * n, -1).T.contiguous()


def _view_table(scenes: Scenes, cameras: Cameras) -> Float[Tensor, "10 V"]:
    """What shading needs to know about a view: the lamp in its frame, the direction up, the ground, and the light."""
    lamp = apply(cameras.R, scenes.light - cameras.centre)
    per_height = 1 / (SHADE_HEIGHT * scenes.scale[:, None])
    power = (1 - scenes.ambient) * scenes.power
    columns = (
        lamp,
        cameras.R[..., 2] * per_height,
        cameras.centre[:, 2:] * per_height,
        torch.stack((scenes.ambient, power, scenes.falloff), dim=-1),
    )
    return torch.cat(columns, dim=-1).T


def surface_hits(
    table: Float[Tensor, "rows Vn"],
    view_table: Float[Tensor, "10 ..."],
    at_solid: Int[Tensor, "*N"],
    x: Float[Tensor, "..."],
    y: Float[Tensor, "..."],
    depth: Float[Tensor, "*N"],
) -> Hits:
    """The place, normal and light of each ray's end, in the frame of the solid that it ends at.

    There, faces of boxes and quadrics are one: ``F = w·l² - 1 = 0`` with the gradient 2 g, ``g = w l``; w is (1, 1,
    closed) for a round, and 1 on the axis of a face.
    """
    rows = _look_up_rows(table[:12], at_solid).unbind()
    d = [rows[5 + 3 * k].addcmul_(rows[3 + 3 * k], x).addcmul_(rows[4 + 3 * k], y) for k in range(3)]
    l = [rows[k].addcmul_(depth, d[k]) for k in range(3)]  # noqa: E741
    is_round, closed = _look_up_rows(table[21:], at_solid)

    w, smooth = _weights(l, is_round, closed)
    g = [w[k] * l[k] for k in range(3)]
    ahead = _dot(g, d)
    ahead = torch.where(ahead.abs() > 1e-12, ahead, 1e-12)
    step = (1 - _dot(g, l)).div_(ahead).mul_(0.5)  # Newton's: F / F′ with F′ = 2 g·d
    limit = smooth.mul(LARGEST_STEP_ON_ROUNDS).add_(LARGEST_STEP).mul_(depth)
    step = torch.maximum(torch.minimum(step, limit), limit.neg_(), out=step)
    l = [l[k].addcmul_(step, d[k]) for k in range(3)]  # noqa: E741
    depth = step.add_(depth)

    p, q, girth = _coordinates(l, w, smooth, closed)
    positive = _dot(w, l).gt_(0)
    face = torch.add(w[1], w[2], alpha=2).mul_(2).add_(positive).mul_(1 - smooth)

    inverse_half, lamp, vertical = (_look_up_rows(table[start : start + 3], at_solid) for start in (12, 15, 18))
    normal = [inverse_half[k].mul_(g[k]) for k in range(3)]
    inverse_length = _dot(normal, normal).clamp_(min=1e-24).rsqrt_()
    facing = ahead.sign().neg_().mul_(inverse_length)
    incidence = ahead.abs_().mul_(inverse_length).mul_((x * x + y * y).add_(1).rsqrt_())
    size = incidence.clamp_(min=0.02).rsqrt_().mul_(depth).div_(girth)

    diffuse = _dot(g, [lamp[k].sub_(l[k]) for k in range(3)]).mul_(facing).clamp_(min=0)
    upward = _dot(g, vertical).mul_(facing)
    return Hits(depth, face, p, q, size.log2_(), _light(view_table, x, y, depth, diffuse, upward))


def _light(
    view_table: Tensor, x: Tensor, y: Tensor, depth: Float[Tensor, "*N"], diffuse: Tensor, upward: Tensor
) -> Float[Tensor, "*N"]:
    """What the surface receives: from the lamp, from all around, and less of it near the ground.

    Args:
        diffuse: the vector to the lamp times the normal, if above zero.
        upward: of the unit normal.
    """
    lamp, up, ground, (ambient, power, falloff) = view_table[:3], view_table[3:6], view_table[6], view_table[7:]
    across, down, ahead = depth * x, depth * y, lamp[2] - depth
    height = (up[0] * x + (up[1] * y + up[2])).mul_(depth).add_(ground)
    across, down = across.sub_(lamp[0]), down.sub_(lamp[1])
    square = _dot((across, down, ahead), (across, down, ahead)).clamp_(min=1e-6)
    diffuse = diffuse.mul_(square.rsqrt()).div_((square * falloff).add_(1)).mul_(power)
    shade = height.clamp_(min=0).neg_().exp_().mul_(SHADE).mul_(1 - upward.clamp(min=0))
    return upward.mul_(0.3).add_(0.7).mul_(ambient).add_(diffuse).mul_(1 - shade)


def _dot(a, b) -> Float[Tensor, "*N"]:
    return (a[0] * b[0]).addcmul_(a[1], b[1]).addcmul_(a[2], b[2])


def _weights(l, is_round, closed):  # noqa: E741
    """w of ``F = w·l² - 1``, and whether the surface is a curved one (the caps of a cylinder are faces)."""
    x, y, z = (value.abs() for value in l)
    mantle = (x * x).addcmul_(y, y).gt_(z * z)  # comparisons in place give floats
    on_x = torch.maximum(y, z).le_(x)
    on_y = y.ge_(z).mul_(1 - on_x)
    smooth = torch.maximum(closed, mantle, out=mantle).mul_(is_round)
    on_z = torch.lerp(1 - on_x - on_y, (closed - 1).mul_(smooth).add_(1), is_round)
    return (on_x.lerp_(smooth, is_round), on_y.lerp_(smooth, is_round), on_z), smooth


def _coordinates(l, w, smooth, closed):  # noqa: E741
    """(p, q): the two other axes of a face; or the angle around and the height or latitude of a round. And its girth.

    The girth is the way around there, as a share of the largest: below 1 towards the poles of an ellipsoid.
    """
    circle = (l[0] * l[0]).addcmul_(l[1], l[1]).sqrt_()
    around = torch.atan2(l[1], l[0]).mul_(1 / torch.pi)
    latitude = torch.atan2(l[2], circle).mul_(2 / torch.pi)
    p = torch.lerp(l[0], l[1], w[0]).lerp_(around, smooth)
    q = torch.lerp(l[2], l[1], w[2]).lerp_(torch.lerp(l[2], latitude, closed), smooth)
    girth = circle.clamp_(min=0.05).sub_(1).mul_(closed).mul_(smooth).add_(1)
    return p, q, girth


_GLOW = 17


def _surface_table(surfaces: Surfaces, cameras: Cameras, bank: TextureBank) -> Float[Tensor, "18 Vn"]:
    """How a surface of a view is painted: a column for each."""
    # Texels of the coarse and of the fine texture under a pixel at a distance of 1, to the base 2.
    coarse = (surfaces.density * bank.size / cameras.K[:, 0, 0, None]).clamp(min=1e-20).log2()
    fine = coarse + surfaces.repeats.log2()
    weight, contrast = surfaces.coarse_weight, surfaces.contrast
    columns = (
        surfaces.uv,
        surfaces.offset,
        torch.stack((surfaces.repeats, surfaces.coarse, surfaces.fine, coarse, fine), dim=-1),
        torch.stack((2 * weight * contrast, (1 - weight) * contrast, (1 - contrast) * GREY), dim=-1),
        surfaces.tint,
        surfaces.glow[..., None],
    )
    return torch.cat(columns, dim=-1).flatten(0, 1).T.contiguous()


def _albedo(bank: TextureBank, paint: Float[Tensor, "18 *N"], hit: Hits) -> Float[Tensor, "3 *N"]:
    """Linear reflectances: the fine texture, modulated by the coarse one, brought to the contrast and tint."""
    uv, (u, v, repeats, coarse, fine, coarse_level, fine_level) = paint[:4], paint[4:11]
    modulation, constant, grey = paint[11:14]
    u.addcmul_(uv[0], hit.p).addcmul_(uv[1], hit.q)
    v.addcmul_(uv[2], hit.p).addcmul_(uv[3], hit.q)
    # Tilted surfaces are half way between blur and aliasing.
    large = look_up(bank, coarse, u, v, coarse_level.add_(hit.log_size), between_levels=False)
    u, v = u.mul_(repeats), v.mul_(repeats)
    small = look_up(bank, fine, u, v, fine_level.add_(hit.log_size), between_levels=True)
    displayed = small.mul_(large.mul_(modulation).add_(constant)).add_(grey)
    return displayed.square_().mul_(paint[14:17])
