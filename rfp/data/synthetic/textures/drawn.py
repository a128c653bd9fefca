"""Families of made things: polygons, bars and wires; striped cloth."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import Cells, Lattice, draw_crowd, draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import bent_grid, spectral_noise, texel_grid
from rfp.data.synthetic.textures.palette import draw_palette, pick, single_colour


def shapes(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Polygons, bars, rings and discs of all scales over each other, and wires across the whole."""
    palette = draw_palette(count, 12, draws)
    xy = texel_grid(size, draws)
    wide, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.2, high=1.8)).split(1, 1)
    image = palette[:, :, :1, None] * (1 + 0.2 * wide)
    surface = 1 + draws.uniform(count, 1, 1, 1, low=0.0, high=0.15) * rough
    for cells in ((1.5, 3.5), (6.0, 11.0), (2.5, 6.0), (11.0, 26.0)):
        lattice = draw_lattice(count, draws, cells=cells)
        place = lattice.cells(lattice.coordinates(xy))
        outside, along, colour = _polygon(lattice, place, palette, size, draws)
        image = paint(image, colour * (surface + 0.5 * along), (0.5 - outside).clamp(0, 1))
    return _wires(image, xy, draws)


def _polygon(
    lattice: Lattice, place: Cells, palette: Float[Tensor, "count 3 colours"], size: int, draws: Draws
) -> tuple[Float[Tensor, "count 1 h w"], Float[Tensor, "count 1 h w"], Float[Tensor, "count 3 h w"]]:
    """One shape in some cells: distance outside it in texels, place along it, and its colour.

    A shape is a rectangle, perhaps with round corners (bars, pills, discs), cut by a slanted line, or an outline.
    """
    draw_x, draw_y, turn, long, short, kind, cut, choice = draw_table(palette.shape[0], 8, draws).split(1, 1)
    angle = 2 * math.pi * turn
    long = 0.18 + 0.28 * long
    short = torch.minimum(0.02 + 0.4 * short**2, long)
    round_corners = (kind > 0.7).float()
    long = torch.where(kind > 0.85, short, long)
    radius = round_corners * short * 0.999
    # Long shapes reach the borders of their cell; shorter ones lie anywhere in it.
    centre = torch.cat([draw_x - 0.5, draw_y - 0.5], 1) * 2 * (0.5 - torch.sqrt(long**2 + short**2)).clamp_min(0)
    cut = torch.where(cut < 0.4, (2 * cut - 0.2) * short, 1.0)
    stroke = torch.where((kind * 7) % 1 < 0.2, 0.15 * short, 1.0)
    # Shapes keep to patches: photographs have empty ground between crowded places.
    long = torch.where(draw_crowd(palette.shape[0], draws) > -0.6, long, -2.0)
    table = [centre, angle.cos(), angle.sin(), long - radius, short - radius, radius, cut, stroke]
    table = look_up(torch.cat([*table, pick(palette, choice)], 1), place.label)
    centre, cosine, sine, long, short, radius, cut, stroke, colour = table.split([2, 1, 1, 1, 1, 1, 1, 1, 3], 1)

    side = lattice.cell_size.amin(1, keepdim=True)
    x, y = ((place.local - centre) * (lattice.cell_size / side)).split(1, 1)
    x, y = cosine * x + sine * y, cosine * y - sine * x
    over_x, over_y = x.abs() - long, y.abs() - short
    beyond = torch.sqrt(over_x.clamp_min(0) ** 2 + over_y.clamp_min(0) ** 2)
    outside = beyond + torch.maximum(over_x, over_y).clamp_max(0) - radius
    outside = torch.maximum(outside, 0.8 * x + 0.6 * y - cut)
    outside = (outside + stroke).abs() - stroke
    return outside * (side * size), x, colour


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
    stripe_width = draws.log_uniform(count, 1, 1, 1, low=6.0, high=50.0)
    entries = 512
    stripe = (((place.local + 0.5) * texels / stripe_width + entries * patch[:, :2]) % entries).floor()
    colours = draws.uniform(count, 1, entries)
    stripes = torch.cat([look_up(colours, direction) for direction in stripe.split(1, 1)], 1)
    palette = draw_palette(count, 5, draws)
    weft, warp = (pick(palette, value * 0.6 + 0.4 * patch[:, 2:3]) for value in stripes.split(1, 1))
    thread_texels = draws.log_uniform(count, 1, 1, 1, low=2.5, high=6.0)
    thread = torch.sin(place.local * texels * (math.pi / thread_texels))
    # In some patches one direction lies on top, in others both show.
    coarse = draws.uniform(count, 1, 1, 1, low=0.0, high=0.8)
    over = (coarse * thread[:, :1] * thread[:, 1:] + 2.4 * patch[:, 3:4] - 0.7).clamp(0, 1)
    worn, fine = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.0, high=1.6)).split(1, 1)
    relief = 1 + draws.uniform(count, 1, 1, 1, low=0.0, high=0.1) * thread.amax(1, keepdim=True)
    cloth = torch.lerp(weft, warp, over.expand_as(weft)) * relief * (1 + 0.15 * worn)
    seam = ((0.5 - place.local.abs()) * texels).amin(1, keepdim=True)
    stitched = (1.5 - (seam - 2.0).abs()).clamp(0, 1) * (thread.sum(1, keepdim=True) > 0)
    hole = (4 * (fine - draws.uniform(count, 1, 1, 1, low=1.2, high=4.0))).clamp(0, 1)
    cloth = paint(cloth, single_colour(count, draws), stitched * draws.uniform(count, 1, 1, 1))
    return paint(cloth, single_colour(count, draws) * (1 + 0.2 * worn), hole)
