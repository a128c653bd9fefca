"""Families of drawn things: polygons and lines, letters, fabric."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import TABLE, draw_lattice
from rfp.data.synthetic.textures.noise import TURN, bent_grid, per_texture, spectral_noise, texel_grid
from rfp.data.synthetic.textures.palette import blend, draw_palette, pick


def clouds(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Rough plaster, rock, earth: noise over all octaves, its colours along a palette, folded into ridges."""
    slope = draws.uniform(count, low=1.0, high=1.7)
    fields = spectral_noise(count, 3, size, draws, slope=slope)
    smooth, ridged, other = fields.split(1, 1)
    ridged = 1 - ridged.abs()
    mixed = torch.lerp(smooth, ridged, per_texture(draws.uniform(count)))
    # A steep curve makes blots with edges out of a smooth field.
    steepness = per_texture(draws.log_uniform(count, low=0.7, high=8.0))
    image = blend(draw_palette(count, 5, draws), torch.sigmoid(steepness * mixed))
    second = torch.sigmoid(per_texture(draws.log_uniform(count, low=2.0, high=20.0)) * (other - 0.7))
    return paint(image, draw_palette(count, 1, draws)[:, 0, :, None, None], second)


def shapes(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Polygons, bars and discs of all scales, the small over the large."""
    palette = draw_palette(count, 12, draws)
    image = palette[:, 0, :, None, None].expand(-1, -1, size, size)
    xy = texel_grid(size, draws)
    for cells in ((1.5, 3.0), (2.0, 4.0), (3.0, 6.0), (5.0, 10.0), (8.0, 16.0), (14.0, 30.0)):
        lattice = draw_lattice(count, draws, cells=cells)
        c = lattice.coordinates(xy)
        cell = c.floor()
        table = lattice.look_up(draws.uniform(count, 8, TABLE, TABLE), cell)
        x, y = ((c - cell - 0.5) - 0.3 * (table[:, :2] - 0.5)).split(1, 1)
        angle = TURN * table[:, 2:3]
        cosine, sine = angle.cos(), angle.sin()
        x, y = cosine * x + sine * y, cosine * y - sine * x
        long, short = 0.12 + 0.22 * table[:, 3:4], 0.02 + 0.2 * table[:, 4:5]
        box = torch.maximum(x.abs() - long, y.abs() - short)
        cut = 0.8 * x + 0.6 * y - 0.5 * short
        disc = torch.sqrt(x**2 + y**2) - short
        kind = table[:, 5:6]
        outside = torch.where(kind < 0.75, torch.where(kind < 0.4, box, torch.maximum(box, cut)), disc)
        texels = size / torch.linalg.vector_norm(lattice.matrix, dim=-1).mean(-1)[:, None, None, None]
        coverage = (0.5 - outside * texels).clamp(0, 1) * (table[:, 6:7] < 0.8).float()
        image = paint(image, pick(palette, table[:, 7:8]) * (1 + 0.5 * x), coverage)
    return image


def fabric(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Woven cloth: stripes of uneven width across each other, threads of a few texels."""
    xy = bent_grid(count, size, draws, largest=0.05)
    lattice = draw_lattice(count, draws, cells=(2.0, 6.0), tilt=0.6)
    c = lattice.coordinates(xy)
    stripes = draws.uniform(count, 2, 1, 256)
    palette = draw_palette(count, 6, draws)
    place = (c % 1 * 256).long().clamp(0, 255)
    width = draws.log_uniform(count, low=4.0, high=40.0).floor()[:, None, None]
    steps = (torch.arange(256, device=draws.device)[None, None] * width / 256).long()
    stripes = stripes[:, :, 0].gather(2, steps.expand(-1, 2, -1))
    values = stripes.gather(2, place.flatten(2)).unflatten(2, (size, size))
    threads = (c * (64 / 4)).mul(TURN / 2).sin()
    over = (threads[:, :1] * threads[:, 1:] > 0).float()
    image = torch.where(over > 0, pick(palette, values[:, :1]), pick(palette, values[:, 1:]))
    worn = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=0.8, high=1.4))
    return image * (1 + 0.15 * threads.amax(1, keepdim=True)) * (1 + 0.2 * worn)
