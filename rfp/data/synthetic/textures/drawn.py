"""Families of made things: polygons, bars and wires; striped cloth."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import Cells, Lattice, draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import bent_grid, spectral_noise, texel_grid
from rfp.data.synthetic.textures.palette import draw_palette, pick, single_colour


def shapes(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Polygons, bars, rings and discs of all scales over each other, and wires across the whole."""
    palette = draw_palette(count, 12, draws)
    xy = texel_grid(size, draws)
    wide, narrow = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.2, high=1.8)).split(1, 1)
    image = palette[:, :, :1, None] * (1 + 0.2 * wide)
    for cells in ((1.5, 3.0), (2.0, 4.0), (5.0, 9.0), (3.0, 6.0), (10.0, 22.0)):
        lattice = draw_lattice(count, draws, cells=cells)
        place = lattice.cells(lattice.coordinates(xy))
        outside, along, colour, chance = _polygon(lattice, place, palette, size, draws)
        # Shapes keep to patches: photographs have empty ground between crowded places.
        present = (chance < 0.55 + 0.3 * narrow).float()
        shading = 1 + 0.5 * along + draws.uniform(count, 1, 1, 1, low=0.0, high=0.15) * wide
        image = paint(image, colour * shading, present * (0.5 - outside).clamp(0, 1))
    return _wires(image, xy, draws)


def _polygon(
    lattice: Lattice, place: Cells, palette: Float[Tensor, "count 3 colours"], size: int, draws: Draws
) -> tuple[Float[Tensor, "count 1 h w"], ...]:
    """One shape in each cell: distance outside it in texels, place along it, colour and a uniform number."""
    count = palette.shape[0]
    draw_x, draw_y, turn, long, short, kind, chance, choice = draw_table(count, 8, draws).split(1, 1)
    angle = 2 * math.pi * turn
    # Bars and boxes reach the borders of their cell; those that are shorter than it lie anywhere in it.
    long = 0.18 + 0.3 * long
    short = torch.minimum(0.02 + 0.4 * short**2, long)
    reach = torch.sqrt(long**2 + short**2)
    free = (0.5 - reach).clamp_min(0)
    centre = torch.cat([draw_x - 0.5, draw_y - 0.5], 1) * 2 * free
    table = torch.cat([centre, angle.cos(), angle.sin(), long, short, kind, chance, pick(palette, choice)], 1)
    table = look_up(table, place.label)
    centre, cosine, sine, long, short, kind, chance = table[:, :8].split([2, 1, 1, 1, 1, 1, 1], 1)
    side = lattice.cell_size.amin(1, keepdim=True)
    x, y = ((place.local - centre) * (lattice.cell_size / side)).split(1, 1)
    x, y = cosine * x + sine * y, cosine * y - sine * x
    box = torch.maximum(x.abs() - long, y.abs() - short)
    cut = torch.maximum(box, 0.8 * x + 0.6 * y - 0.6 * short)
    ring = (torch.sqrt(x * x + y * y) - 0.75 * long).abs() - 0.3 * short
    disc = torch.sqrt(x * x + y * y) - short
    outside = torch.where(kind < 0.4, box, torch.where(kind < 0.75, cut, torch.where(kind < 0.9, disc, ring)))
    return outside * (side * size), x, table[:, 8:], chance


def _wires(
    image: Float[Tensor, "count 3 h w"], xy: Float[Tensor, "1 2 h w"], draws: Draws
) -> Float[Tensor, "count 3 h w"]:
    """The image with a few straight lines that close on the torus."""
    count, size = image.shape[0], image.shape[-1]
    for _ in range(2):
        direction = (draws.uniform(count, 2, 1, 1, low=-2.5, high=2.5)).round()
        length = torch.sqrt(direction.square().sum(1, keepdim=True)).clamp_min(1)
        phase = (direction * xy).sum(1, keepdim=True) + draws.uniform(count, 1, 1, 1)
        distance = (phase - phase.round()).abs() * (size / length)
        width = draws.log_uniform(count, 1, 1, 1, low=0.3, high=5.0)
        image = paint(image, single_colour(count, draws), (width - distance + 0.5).clamp(0, 1))
    return image


def fabric(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Cloth: patches of stripes of uneven widths that cross, woven of threads, creased and worn."""
    xy = bent_grid(count, size, draws, largest=0.06)
    lattice = draw_lattice(count, draws, cells=(1.0, 4.0), aspect=(0.5, 2.0), tilt=0.6)
    place = lattice.cells(lattice.coordinates(xy))
    patch = look_up(draw_table(count, 5, draws), place.label)
    texels = lattice.cell_size * size
    # Each patch reads its stripes at another place of one long list.
    stripe_width = draws.log_uniform(count, 1, 1, 1, low=5.0, high=40.0)
    entries = 512
    stripe = ((place.local + 0.5) * texels / stripe_width + entries * patch[:, :2]).long() & (entries - 1)
    stripes = draws.uniform(count, 2, entries).gather(2, stripe.flatten(2)).unflatten(2, (size, size))
    palette = draw_palette(count, 5, draws)
    weft, warp = (pick(palette, value * 0.6 + 0.4 * patch[:, 2:3]) for value in stripes.split(1, 1))
    thread_texels = draws.log_uniform(count, 1, 1, 1, low=2.5, high=6.0)
    thread = torch.sin(place.local * texels * (math.pi / thread_texels))
    over = (thread[:, :1] * thread[:, 1:] * 2 + 2 * patch[:, 3:4] - 0.5).clamp(0, 1)
    worn, fine = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.0, high=1.6)).split(1, 1)
    relief = 1 + draws.uniform(count, 1, 1, 1, low=0.0, high=0.15) * thread.amax(1, keepdim=True)
    cloth = torch.lerp(weft, warp, over.expand_as(weft)) * relief * (1 + 0.15 * worn)
    seam = ((0.5 - place.local.abs()) * texels).amin(1, keepdim=True)
    stitched = (1.5 - (seam - 2.0).abs()).clamp(0, 1) * (thread.sum(1, keepdim=True) > 0)
    hole = (4 * (fine - draws.uniform(count, 1, 1, 1, low=1.2, high=4.0))).clamp(0, 1)
    cloth = paint(cloth, single_colour(count, draws), stitched * draws.uniform(count, 1, 1, 1))
    return paint(cloth, single_colour(count, draws) * (1 + 0.2 * worn), hole)
