"""Families made of cells: mosaics and cracked ground, masonry, checkers."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_lattice, draw_table, look_up, voronoi
from rfp.data.synthetic.textures.noise import bent_grid, spectral_noise
from rfp.data.synthetic.textures.palette import draw_palette, pick, single_colour


def mosaic(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Cracked ground, flagstones, stained glass: Voronoi cells with joints, a colour and a slope for every cell."""
    xy = bent_grid(count, size, draws, largest=0.03)
    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.0, high=1.5)).split(1, 1)
    lattice = draw_lattice(count, draws, cells=(2.5, 22.0), aspect=(0.5, 2.0))
    tiling = voronoi(lattice, xy + 0.004 * torch.cat([fine, rough], 1), draw_table(count, 2, draws))
    choice, lightness, slope_x, slope_y = draw_table(count, 4, draws).split(1, 1)
    palette = draw_palette(count, 8, draws, spread=0.8)
    variation = draws.uniform(count, 1, 1, low=0.1, high=0.6)
    colour = pick(palette, choice) * (1 + variation * (lightness - 0.5))
    table = look_up(torch.cat([colour, slope_x, slope_y], 1), tiling.label)
    relief = draws.uniform(count, 1, 1, 1, low=0.0, high=0.4)
    shading = 1 + relief * ((table[:, 3:4] - 0.5) * fine + (table[:, 4:] - 0.5) * rough)
    domed = tiling.nearest / (tiling.nearest + tiling.border)
    image = table[:, :3] * shading * (1.1 - draws.uniform(count, 1, 1, 1, low=0.0, high=0.5) * domed)
    joint_texels = draws.uniform(count, 1, 1, 1, low=-1.0, high=4.0) + fine
    joint = (0.5 * (joint_texels - tiling.border * size) + 0.5).clamp(0, 1)
    return paint(image, single_colour(count, draws) * (1 + 0.2 * rough), joint)


def masonry(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Bricks, flagstones, tiles and planks: blocks of uneven colour and length with chipped edges, and mortar."""
    xy = bent_grid(count, size, draws, largest=0.01)
    lattice = draw_lattice(count, draws, cells=(3.0, 16.0), aspect=(0.8, 5.0), tilt=0.5, even=True)
    c = lattice.coordinates(xy)
    shift = 0.5 * draws.chance(count, 1, 1, 1, probability=0.7) * (c[:, 1:].floor() % 2)
    place = lattice.cells(torch.cat([c[:, :1] + shift, c[:, 1:]], 1))
    texels = lattice.cell_size * size
    shorter = texels.amin(1, keepdim=True)

    choice, lightness, *draws_of_block = draw_table(count, 7, draws).split(1, 1)
    palette = draw_palette(count, 6, draws, spread=0.7)
    colour = pick(palette, choice) * (0.75 + 0.5 * lightness)
    table = look_up(torch.cat([colour, *draws_of_block], 1), place.label)
    left, right, height, turn, phase = (table[:, 3:] - 0.5).split(1, 1)
    # Joints of uneven width and blocks laid a little askew; noise chips the edges.
    x, y = (place.local * texels).split(1, 1)
    x, y = x + 0.06 * turn * y, y - 0.06 * turn * x
    uneven = draws.uniform(count, 1, 1, 1, low=0.0, high=0.25) * shorter
    joint = draws.uniform(count, 1, 1, 1, low=0.01, high=0.09) * shorter
    width, depth = texels[:, :1] / 2 - joint, texels[:, 1:] / 2 - joint
    side = torch.minimum(width - uneven * (left + 0.5) + x, width - uneven * (right + 0.5) - x)
    inside = torch.minimum(side, depth - 0.5 * uneven * (height + 0.5) - y.abs())
    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=0.9, high=1.5)).split(1, 1)
    chipped = inside - draws.uniform(count, 1, 1, 1, low=0.0, high=2.0) * rough.clamp_min(0)

    surface = draws.uniform(count, 1, 1, 1, low=0.04, high=0.25)
    block = table[:, :3] * (1 + surface * (fine + phase * rough))
    edge_wear = draws.uniform(count, 1, 1, 1, low=-0.2, high=0.5)
    block = block * (1 - edge_wear * (1 - inside / 4).clamp(0, 1))
    mortar = single_colour(count, draws) * (1 + 0.15 * rough)
    return paint(mortar, block, (chipped + 0.5).clamp(0, 1))


def checker(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Checkers, grids and pixelled patterns, bent and uneven: every cell has its colour, lines run between some."""
    xy = bent_grid(count, size, draws, largest=0.05)
    lattice = draw_lattice(count, draws, cells=(4.0, 24.0), aspect=(0.6, 1.7), tilt=0.7, even=True)
    c = lattice.coordinates(xy)
    # The lines of the grid stand at uneven distances.
    c = c + draws.uniform(count, 1, 1, 1, low=0.0, high=0.2) * torch.sin(math.pi * c.flip(1))
    place = lattice.cells(c)
    table = draw_table(count, 3, draws)
    swapped = (table[:, :1] < draws.uniform(count, 1, 1, low=0.0, high=0.4)).float()
    table = look_up(torch.cat([swapped, table[:, 1:]], 1), place.label)
    parity = place.corner.sum(1, keepdim=True) % 2
    choice = 0.5 * (parity - table[:, :1]).abs() + 0.499 * table[:, 1:2]
    variation = draws.uniform(count, 1, 1, 1, low=0.05, high=0.6)
    image = pick(draw_palette(count, 6, draws).sort(2).values, choice) * (1 + variation * (table[:, 2:] - 0.5))
    edge = ((0.5 - place.local.abs()) * lattice.cell_size * size).amin(1, keepdim=True)
    line = (draws.uniform(count, 1, 1, 1, low=-2.0, high=2.0) - edge + 0.5).clamp(0, 1)
    image = paint(image, single_colour(count, draws), line)
    worn = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=1.0, high=1.6))
    return image * (1 + draws.uniform(count, 1, 1, 1, low=0.02, high=0.2) * worn)
