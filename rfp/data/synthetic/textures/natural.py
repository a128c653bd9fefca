"""Families of grown things: plaster, rock and earth; pebbles and splatter."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_crowd, draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import bent_grid, spectral_noise
from rfp.data.synthetic.textures.palette import blend, draw_palette, pick, single_colour


def clouds(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Rough plaster, rock, earth: noise over all octaves, its colours along a palette, folded into ridges."""
    stretch = draws.log_uniform(count, 2, low=0.6, high=1.7)
    slope = draws.uniform(count, low=1.2, high=2.0)
    smooth, ridged = spectral_noise(count, 2, size, draws, slope=slope, stretch=stretch).split(1, 1)
    other = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=1.5, high=2.2), stretch=stretch)
    mixed = torch.lerp(smooth, 0.8 - ridged.abs(), draws.uniform(count, 1, 1, 1))
    # A steep curve makes blots with edges out of a smooth field.
    steepness = draws.log_uniform(count, 1, 1, 1, low=0.7, high=6.0)
    image = blend(draw_palette(count, 5, draws), torch.sigmoid(steepness * mixed))
    edge = draws.log_uniform(count, 1, 1, 1, low=2.0, high=20.0)
    flakes = torch.sigmoid(edge * (other - draws.uniform(count, 1, 1, 1, low=0.3, high=2.0)))
    image = paint(image, single_colour(count, draws) * (1 + 0.15 * ridged), flakes)
    crack = (1 - (smooth + other).abs() * draws.uniform(count, 1, 1, 1, low=8.0, high=40.0)).clamp(0, 1)
    return image * (1 - draws.uniform(count, 1, 1, 1, low=-0.5, high=0.9).clamp_min(0) * crack)


def speckle(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Pebbles, gravel and splatter: round stones of several scales strewn over ground, lit from one side."""
    xy = bent_grid(count, size, draws, largest=0.03)
    palette = draw_palette(count, 8, draws, spread=0.9)
    ground, patches = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.0, high=1.7)).split(1, 1)
    image = palette[:, :, :1, None] * (1 + 0.25 * ground)
    light = 0.6 * draws.normal(count, 2, 1, 1)
    for cells in ((18.0, 36.0), (8.0, 16.0), (3.5, 7.0)):
        lattice = draw_lattice(count, draws, cells=cells, aspect=(0.7, 1.4))
        place = lattice.cells(lattice.coordinates(xy))
        draw_x, draw_y, draw_radius, choice = draw_table(count, 4, draws).split(1, 1)
        # Stones lie in patches rather than everywhere.
        present = (draw_crowd(count, draws) > draws.uniform(count, 1, 1, low=-1.0, high=0.8)).float()
        radius = 0.25 + 0.6 * draw_radius**2
        colour = pick(palette, choice)
        table = torch.cat([(torch.cat([draw_x, draw_y], 1) - 0.5) * (1 - radius), radius, present, colour], 1)
        table = look_up(table, place.label)
        offset = (place.local - table[:, :2]) / lattice.cell_size.amin((1, 2, 3), keepdim=True) * lattice.cell_size
        x, y = offset.split(1, 1)
        inside = 0.5 * table[:, 2:3] - torch.sqrt(x * x + y * y) * (1 + 0.12 * ground)
        inside = inside * (size * lattice.cell_size.amin(1, keepdim=True))
        shaded = table[:, 4:] * (1 + (x * light[:, :1] + y * light[:, 1:]) + 0.12 * patches)
        shadow = 1 - 0.4 * table[:, 3:4] * (0.5 * inside + 1.5).clamp(0, 1)
        image = paint(image * shadow, shaded, table[:, 3:4] * (inside + 0.5).clamp(0, 1))
    return image
