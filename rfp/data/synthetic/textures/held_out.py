"""Families that training never draws, different in kind: leaves, marble and wood, handwriting (and facades)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_crowd, draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import band_noise, bent_grid, smooth_noise, spectral_noise, texel_grid
from rfp.data.synthetic.textures.palette import blend, draw_palette, pick, single_colour


def dead_leaves(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Leaves and discs that cover each other, radii by a power law: the model of occlusion in natural scenes.

    Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001: numbers of discs fall as radius^-3.
    """
    palette = draw_palette(count, 10, draws)
    xy = texel_grid(size, draws)
    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.0, high=1.5)).split(1, 1)
    image = palette[:, :, :1, None] * (1 + 0.2 * rough)
    pointed = draws.uniform(count, 1, 1)
    for cells in ((7.0, 10.0), (3.0, 4.5), (11.0, 18.0), (2.0, 3.0), (5.0, 8.0), (9.0, 24.0)):
        lattice = draw_lattice(count, draws, cells=cells)
        place = lattice.cells(lattice.coordinates(xy))
        draw_x, draw_y, turn, slender, radius, present, choice, lightness = draw_table(count, 8, draws).split(1, 1)
        angle = 2 * math.pi * turn
        radius = 0.2 + 0.26 * radius**2
        colour = pick(palette, choice) * (0.8 + 0.4 * lightness)
        centre = torch.cat([draw_x - 0.5, draw_y - 0.5], 1) * (1 - 2 * radius)
        # A leaf is where two discs overlap: x² + (|y| + h)² < radius² + h², round for h = 0.
        waist = (pointed * (0.3 + slender)) * radius
        bound = radius**2 + waist**2
        present = (present < 0.85 + 0.2 * draw_crowd(count, draws)).float()
        table = torch.cat([centre, angle.cos(), angle.sin(), waist, bound, present, colour], 1)
        table = look_up(table, place.label)
        centre, cosine, sine, waist, bound, present, colour = table.split([2, 1, 1, 1, 1, 1, 3], 1)
        side = lattice.cell_size.amin(1, keepdim=True)
        x, y = ((place.local - centre) * (lattice.cell_size / side)).split(1, 1)
        x, y = cosine * x + sine * y, cosine * y - sine * x
        inside = (bound.sqrt() - torch.sqrt(x * x + (y.abs() + waist) ** 2)) * (side * size)
        coverage = present * (inside + 0.5).clamp(0, 1)
        vein = 1 - 0.5 * (waist * 4).clamp(0, 1) * (1 - y.abs() * (side * size) / 1.2).clamp(0, 1)
        shadow = 1 - 0.25 * present * (0.4 * inside + 1.5).clamp(0, 1)
        image = paint(image * shadow, colour * vein * (1 + 0.9 * y + 0.1 * fine), coverage)
    return image


def marble(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Marble and wood: sinusoids over strongly bent coordinates, with veins and pores."""
    lattice = draw_lattice(count, draws, cells=(1.0, 9.0))
    bend = smooth_noise(count, 2, size, draws, slope=2.0) * draws.log_uniform(count, 1, 1, 1, low=0.01, high=0.12)
    phase = lattice.coordinates(texel_grid(size, draws) + bend)[:, :1]
    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.1, high=1.6)).split(1, 1)
    # Rings of years: the second wave is a finer one that follows the first.
    rings = draws.log_uniform(count, 1, 1, 1, low=2.0, high=9.0).round()
    wave = torch.sin(2 * math.pi * phase) + 0.5 * torch.sin(2 * math.pi * (rings * phase) + rough)
    wave = (0.5 + 0.35 * wave + 0.08 * fine).clamp(0, 1) ** draws.log_uniform(count, 1, 1, 1, low=0.5, high=3.0)
    image = blend(draw_palette(count, 4, draws), wave)
    vein_width = draws.log_uniform(count, 1, 1, 1, low=0.03, high=0.3)
    vein = (1 - rough.abs() / vein_width).clamp(0, 1) * draws.uniform(count, 1, 1, 1)
    image = paint(image, single_colour(count, draws), vein)
    knot = (4 * (fine - draws.uniform(count, 1, 1, 1, low=1.0, high=3.0))).clamp(0, 1)
    return paint(image, single_colour(count, draws), knot)


def handwriting(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Lines of running script, drawn as the level lines of stretched noise: letters of another construction."""
    xy = bent_grid(count, size, draws, largest=0.03)
    lattice = draw_lattice(count, draws, cells=(3.0, 12.0), aspect=(2.0, 6.0), tilt=0.5)
    place = lattice.cells(lattice.coordinates(xy))
    texels = lattice.cell_size * size
    length, darkness, written = look_up(draw_table(count, 3, draws), place.label).split(1, 1)
    # Letters are loops of a pen: level lines of noise whose structures are about half a row high.
    row = lattice.cell_size[:, 1, 0, 0]
    pen = band_noise(count, size, draws, frequency=(draws.uniform(count, low=0.9, high=1.4) / row).clamp_max(size / 6))
    # Dividing by its slope keeps the line's width even.
    slope_x, slope_y = pen - pen.roll(1, -1), pen - pen.roll(1, -2)
    distance = (pen / torch.sqrt(slope_x**2 + slope_y**2 + 1e-6)).abs()
    width = draws.uniform(count, 1, 1, 1, low=0.5, high=1.6)
    across = ((0.25 + 0.22 * length - place.local[:, :1].abs()) * texels[:, :1] + 0.5).clamp(0, 1)
    along = ((0.32 - place.local[:, 1:].abs()) * texels[:, 1:] + 0.5).clamp(0, 1)
    ink = (width - distance + 0.5).clamp(0, 1) * across * along * (written < 0.85).float()

    rough, fine = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.2, high=1.8)).split(1, 1)
    paper, inks, lines = draw_palette(count, 3, draws).split(1, 2)
    image = paper[..., None] * (1 + draws.uniform(count, 1, 1, 1, low=0.03, high=0.2) * rough)
    ruled = (1 - (0.5 - place.local[:, 1:].abs()) * texels[:, 1:]).clamp(0, 1) * draws.uniform(count, 1, 1, 1, high=0.6)
    image = paint(image, lines[..., None], ruled)
    return paint(image, inks[..., None] * (0.7 + 0.5 * darkness) * (1 + 0.1 * fine), ink)
