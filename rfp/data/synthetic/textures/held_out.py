"""Families that training never draws, different in kind: leaves, marble and wood, facades."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import TABLE, draw_lattice
from rfp.data.synthetic.textures.noise import TURN, bent_grid, per_texture, smooth_noise, spectral_noise, texel_grid
from rfp.data.synthetic.textures.palette import blend, draw_palette, pick


def dead_leaves(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Ellipses that cover each other, their radii by a power law: the model of occlusion in natural scenes."""
    palette = draw_palette(count, 10, draws)
    image = palette[:, 0, :, None, None].expand(-1, -1, size, size)
    xy = texel_grid(size, draws)
    ranges = ((2.0, 3.0), (6.0, 9.0), (3.0, 4.5), (16.0, 24.0), (4.5, 7.0), (9.0, 14.0), (2.0, 4.0), (24.0, 40.0))
    for cells in ranges:
        lattice = draw_lattice(count, draws, cells=cells)
        c = lattice.coordinates(xy)
        cell = c.floor()
        table = lattice.look_up(draws.uniform(count, 7, TABLE, TABLE), cell)
        x, y = ((c - cell - 0.5) - 0.2 * (table[:, :2] - 0.5)).split(1, 1)
        angle = TURN * table[:, 2:3]
        cosine, sine = angle.cos(), angle.sin()
        x, y = cosine * x + sine * y, (cosine * y - sine * x) * (1 + 1.2 * table[:, 3:4])
        distance = torch.sqrt(x**2 + y**2)
        texels = size / torch.linalg.vector_norm(lattice.matrix, dim=-1).mean(-1)[:, None, None, None]
        coverage = ((0.2 + 0.2 * table[:, 4:5] - distance) * texels + 0.5).clamp(0, 1)
        coverage = coverage * (table[:, 5:6] < 0.7).float()
        image = paint(image, pick(palette, table[:, 6:7]) * (1 + 0.8 * x), coverage)
    return image


def marble(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Marble and wood: sinusoids over strongly bent coordinates, with veins."""
    lattice = draw_lattice(count, draws, cells=(2.0, 12.0), aspect=(1.0, 1.0))
    bend = smooth_noise(count, 2, size, draws, slope=1.8)
    bend = bend * per_texture(draws.uniform(count, low=0.02, high=0.12))
    phase = lattice.coordinates(texel_grid(size, draws) + bend)
    wave = 0.5 + 0.5 * torch.sin(TURN * phase[:, :1])
    wave = wave ** per_texture(draws.log_uniform(count, low=0.5, high=4.0))
    image = blend(draw_palette(count, 4, draws), wave)
    fine = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=1.0, high=1.5))
    vein = (1 - 6 * fine.abs()).clamp(0, 1) * per_texture(draws.uniform(count))
    return paint(image, draw_palette(count, 1, draws)[:, 0, :, None, None], vein)


def facade(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """House fronts: windows in rows with frames, sills, cross bars and panes of uneven light."""
    xy = bent_grid(count, size, draws, largest=0.005)
    lattice = draw_lattice(count, draws, cells=(3.0, 9.0), aspect=(0.6, 1.6), tilt=0.0)
    c = lattice.coordinates(xy)
    cell = c.floor()
    table = lattice.look_up(draws.uniform(count, 6, TABLE, TABLE), cell)
    texels = size / torch.linalg.vector_norm(lattice.matrix, dim=-1)[..., None, None]
    local = c - cell - 0.5
    half = draws.uniform(count, 2, 1, 1, low=0.2, high=0.42)
    half = half * (1 - 0.3 * (table[:, 4:5] < 0.2))
    inside = ((half - local.abs()) * texels).amin(1, keepdim=True)
    frame = per_texture(draws.uniform(count, low=1.0, high=3.0))
    bars = per_texture((draws.uniform(count) * 3).floor() + 1)
    pane_place = (local / half) * bars / 2 + 0.5 * (bars % 2)
    pane = pane_place.floor()
    bar = ((pane_place - pane - 0.5).abs() - 0.5).neg() * texels * half * 2 / bars
    pane_light = torch.frac((torch.sin((cell + pane / 7) * 12.9898).sum(1, keepdim=True) * 43.5453).abs())
    fine = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=0.8, high=1.3))
    walls, frames = draw_palette(count, 2, draws)[..., None, None].unbind(1)
    glass = draw_palette(count, 6, draws)
    image = walls * (1 + 0.12 * fine)
    sill = ((local[:, 1:] - half[:, 1:]).abs() < 0.06) & (local[:, :1].abs() < half[:, :1] * 1.15)
    image = paint(image, frames * 1.2, sill.float())
    image = paint(image, frames * (0.8 + 0.4 * table[:, :1]), (inside + frame + 0.5).clamp(0, 1))
    light = (table[:, 2:3] + 0.5 * pane_light + 0.2 * local[:, 1:]).clamp(0, 0.999)
    pane_cover = (inside + 0.5).clamp(0, 1) * (bar.amin(1, keepdim=True) - frame / 2 + 0.5).clamp(0, 1)
    return paint(image, pick(glass, light), pane_cover)
