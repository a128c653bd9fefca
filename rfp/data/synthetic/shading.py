"""What the cameras see at given pixels: exact depth, and the light that the surface sends, free of any sensor."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.synthetic.cameras import Cameras
from rfp.data.synthetic.layouts import BOX_SLOTS
from rfp.data.synthetic.ray_casting import LocalRays, cast, local_rays
from rfp.data.synthetic.scenes import FACES, Scenes, Surfaces
from rfp.data.synthetic.texture_bank import TextureBank, look_up_bilinear, look_up_trilinear

GREY = 0.45
"""What a surface without contrast looks like, before its tint."""
LARGEST_STEP = 1e-5
"""Of the Newton step on the depth, as a share of it: the packed depth is off by at most 4e-6."""


@dataclass(frozen=True)
class Seen:
    """What V views see at N pixels each."""

    depth: Float[Tensor, "V N"]
    surface: Int[Tensor, "V N"]
    """solid × 6 + face."""
    radiance: Float[Tensor, "V 3 N"]
    """Linear light."""


def see(
    scenes: Scenes, cameras: Cameras, bank: TextureBank, u: Float[Tensor, "#V N"], v: Float[Tensor, "#V N"]
) -> Seen:
    """Depth, surface and light at pixels (u, v) of one camera of each scene; any pixels, between centres too."""
    rays = local_rays(scenes.solids, cameras)
    packed_depth, solid = cast(rays, u, v)
    return shade(scenes, cameras, rays, bank, u, v, packed_depth, solid)


def shade(
    scenes: Scenes,
    cameras: Cameras,
    rays: LocalRays,
    bank: TextureBank,
    u: Float[Tensor, "#V N"],
    v: Float[Tensor, "#V N"],
    depth: Float[Tensor, "V N"],
    solid: Int[Tensor, "V N"],
) -> Seen:
    """The second half of ``see``: what is at the depths that ``cast`` found."""
    views, n = rays.origin.shape[:2]
    offsets = torch.arange(views, device=depth.device, dtype=torch.int32)[:, None]
    at_solid = (solid + offsets * n).reshape(-1)
    hit = surface_hits(_solid_table(scenes, rays), at_solid, u.expand_as(depth), v.expand_as(depth), depth)

    face = hit.face.to(torch.int32)
    surface = solid.reshape(-1) * FACES + face
    paint = _surface_table(scenes.surfaces).index_select(1, (at_solid * FACES + face).long())
    albedo = _albedo(bank, paint, hit, (1 / cameras.K[:, 0, 0, None]).expand_as(depth).reshape(-1))
    light = (hit.diffuse * (1 - hit.ambient) + hit.ambient * (0.7 + 0.3 * hit.upward)).clamp_(min=0)
    glow = paint[_GLOW]
    radiance = albedo.mul_(torch.lerp(light, torch.ones_like(light), glow))
    return Seen(
        hit.depth.reshape(depth.shape),
        surface.reshape(depth.shape),
        radiance.reshape(3, views, -1).transpose(0, 1),
    )


@dataclass(frozen=True)
class Hits:
    """Where N rays end."""

    depth: Float[Tensor, "N"]
    face: Float[Tensor, "N"]
    p: Float[Tensor, "N"]
    """The surface's own coordinates."""
    q: Float[Tensor, "N"]
    girth: Float[Tensor, "N"]
    """How far around the surface is there, of the largest: below 1 towards the poles of an ellipsoid."""
    incidence: Float[Tensor, "N"]
    """Cosine between the ray and the normal, above 0."""
    diffuse: Float[Tensor, "N"]
    upward: Float[Tensor, "N"]
    """The vertical part of the normal, which faces the camera."""
    ambient: Float[Tensor, "N"]


def _solid_table(scenes: Scenes, rays: LocalRays) -> Float[Tensor, "27 Vn"]:
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
        1 / solids.half,
        light,
        solids.axes[..., 2],
        is_round[None, :, None].expand(views, n, 1),
        solids.closed[..., None],
        everywhere(scenes.ambient),
        everywhere(scenes.outdoor),
    )
    return torch.cat(columns, dim=-1).reshape(views * n, -1).T.contiguous()


def surface_hits(
    table: Float[Tensor, "rows Vn"],
    at_solid: Int[Tensor, "N"],
    u: Float[Tensor, "V n"],
    v: Float[Tensor, "V n"],
    depth: Float[Tensor, "V n"],
) -> Hits:
    """The place, normal and light of each ray's end, in the frame of the solid that it ends at."""
    rows = table.index_select(1, at_solid.long()).unbind()
    u, v, depth = u.reshape(-1), v.reshape(-1), depth.reshape(-1)
    d = [rows[3 + 3 * k] * u + rows[4 + 3 * k] * v + rows[5 + 3 * k] for k in range(3)]
    l = [rows[k] + depth * d[k] for k in range(3)]  # noqa: E741
    inverse_half, light, vertical = rows[12:15], rows[15:18], rows[18:21]
    is_round, closed, ambient, outdoor = rows[21:25]

    g, faces, smooth = _gradient(l, is_round, closed)
    ahead = _dot(g, d)
    ahead = torch.where(ahead.abs() > 1e-12, ahead, 1e-12)
    # Newton on F = g·l - 1, F′ = g·d for a plane and twice that for a quadric.
    step = (1 - _dot(g, l)) / (ahead * (1 + smooth))
    limit = LARGEST_STEP * depth
    depth = depth + torch.maximum(torch.minimum(step, limit), -limit)
    l = [rows[k] + depth * d[k] for k in range(3)]  # noqa: E741

    normal = [g[k] * inverse_half[k] for k in range(3)]
    length = _dot(normal, normal).sqrt_().clamp_(min=1e-12)
    facing = -ahead.sign() / length
    along = [d[k] / inverse_half[k] for k in range(3)]
    incidence = ahead.abs() / (length * _dot(along, along).sqrt_().clamp_(min=1e-12))

    to_light = [light[k] - l[k] for k in range(3)]
    distance = [to_light[k] / inverse_half[k] for k in range(3)]
    square = _dot(distance, distance).clamp_(min=1e-6)
    reach = torch.where(outdoor > 0, 2.0, 2.6 / (1 + 0.1 * square))
    diffuse = (_dot(g, to_light) * facing).clamp_(min=0) * square.rsqrt() * reach
    upward = _dot(normal, vertical) * facing
    p, q, girth = _coordinates(l, faces, smooth, closed)
    positive = (faces[0] * l[0] + faces[1] * l[1] + faces[2] * l[2] > 0).to(depth.dtype)
    face = (2 * faces[1] + 4 * faces[2] + positive) * (1 - smooth)
    return Hits(depth, face, p, q, girth, incidence, diffuse, upward, ambient)


def _dot(a, b) -> Float[Tensor, "N"]:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _gradient(l, is_round, closed):  # noqa: E741
    """g with g·l = 1 on the surface: the axis of a box's face, or (lx, ly, closed lz) of a quadric; and which."""
    x, y, z = (value.abs() for value in l)
    on_x = ((x >= y) & (x >= z)).to(x.dtype)
    on_y = (y >= z).to(x.dtype) * (1 - on_x)
    circle = l[0] * l[0] + l[1] * l[1]
    smooth = is_round * torch.maximum(closed, (circle > l[2] * l[2]).to(x.dtype))
    cap = is_round * (1 - smooth)
    on_x, on_y = on_x * (1 - cap), on_y * (1 - cap)
    faces = (on_x, on_y, 1 - on_x - on_y)
    g = [torch.lerp(faces[k] * l[k].sign(), l[k] if k < 2 else closed * l[k], smooth) for k in range(3)]
    return g, faces, smooth


def _coordinates(l, faces, smooth, closed):  # noqa: E741
    """(p, q): the two other axes of a face; or the angle around and the height or latitude of a round."""
    p = l[0] + faces[0] * (l[1] - l[0])
    q = l[2] + faces[2] * (l[1] - l[2])
    circle = (l[0] * l[0] + l[1] * l[1]).sqrt_()
    around = torch.atan2(l[1], l[0]) * (1 / torch.pi)
    latitude = torch.atan2(l[2], circle) * (2 / torch.pi)
    height = torch.lerp(l[2], latitude, closed)
    girth = torch.lerp(torch.ones_like(circle), circle.clamp(min=0.05), smooth * closed)
    return torch.lerp(p, around, smooth), torch.lerp(q, height, smooth), girth


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


def _albedo(bank: TextureBank, paint: Float[Tensor, "16 N"], hit: Hits, pixel: Float[Tensor, "N"]) -> Tensor:
    """Linear reflectances: the fine texture, modulated by the coarse one, brought to the contrast and tint."""
    uv, (u0, v0, repeats, coarse, fine, weight, contrast) = paint[:4], paint[4:11]
    u = uv[0] * hit.p + uv[1] * hit.q + u0
    v = uv[2] * hit.p + uv[3] * hit.q + v0
    # Texels of the coarse texture under a pixel; tilted surfaces half way between blur and aliasing.
    texels = bank.size * paint[15] * hit.depth * pixel / (hit.girth * hit.incidence.clamp(min=0.02).sqrt())
    lod = texels.clamp_(min=1e-6).log2_()
    nearest_level = lod.round().clamp_(0, bank.levels - 1).to(torch.int32)
    large = look_up_bilinear(bank, coarse.to(torch.int32), u, v, nearest_level)
    small = look_up_trilinear(bank, fine.to(torch.int32), u * repeats, v * repeats, lod + repeats.log2())
    shown = small.mul_(large.mul_(2 * weight).add_(1 - weight))
    shown = shown.mul_(contrast).add_(GREY * (1 - contrast))
    return shown.square_().mul_(paint[11:14])
