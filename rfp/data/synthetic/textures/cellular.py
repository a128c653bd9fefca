"""Families made of cells: mosaics and cracked ground, masonry, checkers, pebbles."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import TABLE, draw_lattice, voronoi
from rfp.data.synthetic.textures.noise import bent_grid, per_texture, spectral_noise
from rfp.data.synthetic.textures.palette import draw_palette, pick


def mosaic(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Cracked ground and stained glass: Voronoi cells of two scales, dark joints, a colour for every cell."""
    xy = bent_grid(count, size, draws)
    palette = draw_palette(count, 8, draws, spread=0.8)
    image = None
    for cells in ((4.0, 12.0), (14.0, 40.0)):
        lattice = draw_lattice(count, draws, cells=cells, aspect=(0.6, 1.7))
        tiling = voronoi(lattice, xy, draws.uniform(count, 2, TABLE, TABLE))
        colour_choice, shade = lattice.look_up(draws.uniform(count, 2, TABLE, TABLE), tiling.cell).split(1, 1)
        joint_width = per_texture(draws.uniform(count, low=0.0, high=2.5)) / size
        joint = (0.5 + (joint_width - tiling.border) * size * 0.5).clamp(0, 1)
        if image is None:
            image = pick(palette, colour_choice) * (0.75 + 0.5 * shade)
            image = paint(image, draw_palette(count, 1, draws)[:, 0, :, None, None] * 0.4, joint)
        else:
            strength = per_texture(draws.uniform(count, low=0.0, high=0.5))
            image = image * (1 + strength * (2 * shade - 1)) * (1 - strength * joint)
    assert image is not None
    return image


def masonry(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Bricks, tiles and planks: mortar between blocks of uneven colour, chipped edges."""
    xy = bent_grid(count, size, draws, largest=0.008)
    lattice = draw_lattice(count, draws, cells=(3.0, 14.0), aspect=(1.0, 5.0), tilt=0.5, even_rows=True)
    c = lattice.coordinates(xy)
    row = c[:, 1:].floor()
    shift = per_texture(0.5 * draws.chance(count, probability=0.7)) * (row % 2)
    c = torch.cat([c[:, :1] + shift, c[:, 1:]], 1)
    cell = c.floor()
    texels = size / torch.linalg.vector_norm(lattice.matrix, dim=-1)[..., None, None]
    table = lattice.look_up(draws.uniform(count, 6, TABLE, TABLE), cell)
    inset = per_texture(draws.uniform(count, low=0.01, high=0.08)) * texels.amin(1, keepdim=True)
    # Every block has its own size and a slightly turned outline; its edges are chipped by noise.
    local = (c - cell - 0.5) * texels
    turn = 0.06 * (table[:, 4:5] - 0.5)
    local = torch.cat([local[:, :1] + turn * local[:, 1:], local[:, 1:] - turn * local[:, :1]], 1)
    fine = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=0.8, high=1.4))
    chips = per_texture(draws.uniform(count, low=0.0, high=1.5)) * fine[:, :1]
    half = texels / 2 - inset * (1 + 0.8 * (table[:, 2:4] - 0.5))
    inside = (half - local.abs()).amin(1, keepdim=True)
    block = (inside - chips.clamp_min(0) + 0.5).clamp(0, 1)
    palette = draw_palette(count, 6, draws, spread=0.6)
    colour = pick(palette, table[:, :1]) * (0.8 + 0.4 * table[:, 1:2])
    colour = colour * (1 + per_texture(draws.uniform(count, low=0.03, high=0.2)) * fine[:, 1:])
    bevel = 1 - per_texture(draws.uniform(count, low=0.0, high=0.5)) * (1 - inside / 3).clamp(0, 1)
    mortar = draw_palette(count, 1, draws)[:, 0, :, None, None] * (1 + 0.1 * fine[:, :1])
    return paint(mortar, colour * bevel, block)


def checker(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Checkers and grids, bent and irregular: cells of two sides with colours of their own, lines between some."""
    xy = bent_grid(count, size, draws, largest=0.04)
    lattice = draw_lattice(count, draws, cells=(4.0, 24.0), aspect=(0.7, 1.4), tilt=0.7, even_rows=True)
    c = lattice.coordinates(xy)
    # Lines of the grid stand at uneven distances.
    c = c + per_texture(draws.uniform(count, low=0.0, high=0.12)) * torch.sin(torch.pi * c.flip(1))
    cell = c.floor()
    texels = size / torch.linalg.vector_norm(lattice.matrix, dim=-1)[..., None, None]
    parity = (cell.sum(1, keepdim=True)) % 2
    table = lattice.look_up(draws.uniform(count, 3, TABLE, TABLE), cell)
    flipped = (table[:, :1] < per_texture(draws.uniform(count, low=0.0, high=0.35))).float()
    palette = draw_palette(count, 6, draws)
    choice = 0.5 * (parity + flipped - 2 * parity * flipped) + 0.499 * table[:, 1:2]
    image = pick(palette.sort(1).values, choice) * (0.8 + 0.4 * table[:, 2:])
    edge = ((c - cell - 0.5).abs() - 0.5).neg() * texels
    width = per_texture(draws.uniform(count, low=-2.0, high=2.0))
    line = (width - edge.amin(1, keepdim=True)).clamp(0, 1)
    return paint(image, draw_palette(count, 1, draws)[:, 0, :, None, None], line)


def speckle(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Pebbles, gravel and splatter: round blobs of three scales over ground, lit from one side."""
    xy = bent_grid(count, size, draws, largest=0.03)
    palette = draw_palette(count, 8, draws, spread=0.9)
    ground = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=0.8, high=1.5))
    image = palette[:, 0, :, None, None] * (1 + 0.2 * ground)
    light = draws.normal(count, 2, 1, 1)
    for cells in ((4.0, 10.0), (12.0, 24.0), (30.0, 60.0)):
        lattice = draw_lattice(count, draws, cells=cells, aspect=(0.7, 1.4))
        c = lattice.coordinates(xy)
        cell = c.floor()
        table = lattice.look_up(draws.uniform(count, 5, TABLE, TABLE), cell)
        radius = 0.15 + 0.33 * table[:, 2:3] ** 2
        offset = c - cell - 0.5 - (table[:, :2] - 0.5) * (1 - 2 * radius)
        texels = size / torch.linalg.vector_norm(lattice.matrix, dim=-1).mean(-1)[:, None, None, None]
        inside = (radius - torch.linalg.vector_norm(offset, dim=1, keepdim=True) * (1 + 0.1 * ground)) * texels
        present = (table[:, 3:4] < per_texture(draws.uniform(count, low=0.3, high=0.9))).float()
        shading = 1 + 0.8 * (offset * light).sum(1, keepdim=True)
        colour = pick(palette, table[:, 4:5]) * shading * (1 + 0.1 * ground)
        image = paint(
            image * (1 - 0.4 * present * (inside / 2 + 1.5).clamp(0, 1)), colour, present * (inside + 0.5).clamp(0, 1)
        )
    return image
