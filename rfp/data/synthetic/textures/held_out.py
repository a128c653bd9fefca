"""Families that training never draws, different in kind: leaves, marble and wood, facades, handwriting."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import bent_grid, smooth_noise, spectral_noise, texel_grid
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
    for cells in ((8.0, 12.0), (3.0, 4.0), (14.0, 20.0), (5.0, 7.0), (2.0, 3.0), (9.0, 14.0), (4.0, 6.0), (16.0, 30.0)):
        lattice = draw_lattice(count, draws, cells=cells)
        place = lattice.cells(lattice.coordinates(xy))
        draw_x, draw_y, turn, slender, radius, present, choice, lightness = draw_table(count, 8, draws).split(1, 1)
        angle = 2 * math.pi * turn
        radius = 0.3 + 0.2 * radius
        colour = pick(palette, choice) * (0.8 + 0.4 * lightness)
        centre = torch.cat([draw_x - 0.5, draw_y - 0.5], 1) * (1 - 2 * radius)
        # A leaf is where two discs overlap: x² + (|y| + h)² < radius² + h², round for h = 0.
        waist = (pointed * (0.3 + slender)) * radius
        bound = radius**2 + waist**2
        present = (present < 0.75).float()
        table = torch.cat([centre, angle.cos(), angle.sin(), waist, bound, present, colour], 1)
        table = look_up(table, place.label)
        centre, cosine, sine, waist, bound, present, colour = table.split([2, 1, 1, 1, 1, 1, 3], 1)
        side = lattice.cell_size.amin(1, keepdim=True)
        x, y = ((place.local - centre) * (lattice.cell_size / side)).split(1, 1)
        x, y = cosine * x + sine * y, cosine * y - sine * x
        inside = (bound.sqrt() - torch.sqrt(x * x + (y.abs() + waist) ** 2)) * (side * size)
        coverage = present * (inside + 0.5).clamp(0, 1)
        vein = 1 - 0.5 * (waist * 4).clamp(0, 1) * (1 - y.abs() * (side * size) / 1.2).clamp(0, 1)
        shadow = 1 - 0.35 * present * (0.4 * inside + 1.5).clamp(0, 1)
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


def facade(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """House fronts: windows in rows with frames, sills, bars, blinds and panes of uneven light."""
    xy = bent_grid(count, size, draws, largest=0.006)
    lattice = draw_lattice(count, draws, cells=(2.0, 8.0), aspect=(0.6, 1.6), tilt=0.0)
    place = lattice.cells(lattice.coordinates(xy))
    table = look_up(draw_table(count, 8, draws), place.label)
    smaller, blind, light, frame_light, shift_x, shift_y, bars_draw, balcony = table.split(1, 1)
    texels = lattice.cell_size * size
    half = draws.uniform(count, 2, 1, 1, low=0.22, high=0.4) * (1 - 0.35 * (smaller < 0.15).float() - 0.06 * shift_x)
    local = place.local - 0.06 * (torch.cat([shift_x, shift_y], 1) - 0.5)
    inside = ((half - local.abs()) * texels).amin(1, keepdim=True)
    frame = draws.uniform(count, 1, 1, 1, low=1.0, high=3.0)

    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=0.9, high=1.4)).split(1, 1)
    walls, frames, roofs = (single_colour(count, draws) for _ in range(3))
    storey = draws.uniform(count, 1, 1, 1, low=-0.1, high=0.06)
    image = walls * (1 + 0.1 * fine + 0.06 * rough)
    image = paint(image, roofs, ((0.5 - place.local[:, 1:].abs()) < storey).float())
    below = local[:, 1:] - half[:, 1:]
    beside = local[:, :1].abs() - half[:, :1] * 1.2
    sill = ((0.04 - (below - 0.03).abs()).minimum(-beside) * texels[:, 1:] + 0.5).clamp(0, 1)
    shade = ((0.05 - (below - 0.1).abs()).minimum(-beside) * texels[:, 1:] * 0.5 + 0.5).clamp(0, 1)
    image = paint(image * (1 - 0.35 * shade), frames * 1.15, sill)
    image = paint(image, frames * (0.75 + 0.5 * frame_light), (inside + frame + 0.5).clamp(0, 1))

    bars = (draws.uniform(count, 2, 1, 1) * 2 + 0.7 * bars_draw).floor() + 1
    pane_place = (local / half + 1) * bars / 2
    pane = pane_place.floor()
    bar = ((0.5 - (pane_place - pane - 0.5).abs()) * texels * half * 2 / bars).amin(1, keepdim=True)
    pane_seed = (light * 4096).floor() + 61 * pane[:, :1] + 17 * pane[:, 1:]
    pane_light = look_up(draws.uniform(count, 1, 4096), pane_seed.remainder(4096))
    glass = pick(draw_palette(count, 6, draws), (light + 0.35 * (pane_light - 0.5)).clamp(0, 0.999))
    # A reflection of the sky and of what stands opposite, and blinds let down by some part.
    glass = glass * (1 + 0.4 * local[:, 1:] + 0.25 * rough)
    lowered = ((2 * half[:, 1:] * (1.4 * blind - 0.5) - (local[:, 1:] + half[:, 1:])) * texels[:, 1:] + 0.5).clamp(0, 1)
    slats = 0.85 + 0.15 * torch.sin(local[:, 1:] * texels[:, 1:] * 1.6)
    glass = paint(glass, frames * slats, lowered)
    image = paint(image, glass, (inside + 0.5).clamp(0, 1) * (bar - frame / 3 + 0.5).clamp(0, 1))
    railing = (below.abs() < 0.12) & (beside < 0.1) & (balcony < 0.3)
    rods = (0.5 + 0.5 * torch.sin(local[:, :1] * texels[:, :1] * 1.3)) * railing
    return paint(image, roofs * 0.5, rods)


def handwriting(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Lines of running script, drawn as the level lines of stretched noise: letters of another construction."""
    xy = bent_grid(count, size, draws, largest=0.03)
    lattice = draw_lattice(count, draws, cells=(4.0, 14.0), aspect=(4.0, 9.0), tilt=0.5)
    place = lattice.cells(lattice.coordinates(xy))
    texels = lattice.cell_size * size
    word = look_up(draw_table(count, 3, draws), place.label)
    length = 0.25 + 0.24 * word[:, :1]
    pen, fine = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.3, high=1.6)).split(1, 1)
    up = place.local[:, 1:] / 0.3
    envelope = ((length - place.local[:, :1].abs()) * texels[:, :1] / 3).clamp(0, 1) * (1 - up**2).clamp(0, 1)
    # Ink where the field crosses zero; dividing by its slope keeps the line's width even.
    slope_x, slope_y = pen - pen.roll(1, -1), pen - pen.roll(1, -2)
    field = pen / torch.sqrt(slope_x**2 + slope_y**2 + 1e-4)
    width = draws.uniform(count, 1, 1, 1, low=0.6, high=1.8)
    ink = (width - field.abs() + 0.5).clamp(0, 1) * (envelope > 0.15)
    paper, inks = draw_palette(count, 2, draws).split(1, 2)
    image = paper[..., None] * (1 + 0.1 * fine)
    ruled = (1 - (0.5 - place.local[:, 1:].abs()) * texels[:, 1:]).clamp(0, 1) * draws.uniform(count, 1, 1, 1, high=0.5)
    image = paint(image, single_colour(count, draws), ruled)
    return paint(image, inks[..., None] * (0.8 + 0.4 * word[:, 1:2]), ink)
