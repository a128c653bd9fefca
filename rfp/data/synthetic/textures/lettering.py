"""A family of letters: signs, posters and pages of invented alphabets.

Each texture has an alphabet of its own: letters made of straight strokes and bowls, kept as distances to the stroke, so
that one small table gives sharp letters at every size.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import bent_grid, spectral_noise
from rfp.data.synthetic.textures.palette import draw_palette, pick

LETTERS = 32
WIDTH, HEIGHT = 16, 24
"""Entries of the distance table of a letter."""


def letters(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """Signs and pages: blocks of paper, each with rows of letters of its own size, ink and direction."""
    xy = bent_grid(count, size, draws, largest=0.015)
    lattice = draw_lattice(count, draws, cells=(1.2, 4.0), aspect=(0.5, 2.0), tilt=0.5)
    place = lattice.cells(lattice.coordinates(xy))
    palette = draw_palette(count, 8, draws)
    paper_choice, ink_choice, bare, *layout = draw_table(count, 8, draws).split(1, 1)
    colours = torch.cat([pick(palette, paper_choice), pick(palette, (ink_choice * 0.5 + paper_choice + 0.25) % 1)], 1)
    table = look_up(torch.cat([colours, bare, *layout], 1), place.label)
    paper, ink, bare, turn, rows, bold, margin, seed = table.split([3, 3, 1, 1, 1, 1, 1, 1], 1)

    local, block = place.local * lattice.cell_size * size, (lattice.cell_size * size).expand(-1, -1, size, size)
    turned = (turn < 0.3).float()
    local = torch.lerp(local, torch.cat([local[:, 1:], -local[:, :1]], 1), turned.expand_as(local))
    block = torch.lerp(block, block.flip(1), turned.expand_as(local))
    block = block - (0.03 + 0.12 * margin) * block.amin(1, keepdim=True)
    ink_cover = _lines_of_text(local, block, rows, bold, seed, draws)

    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=1.0, high=1.6)).split(1, 1)
    wall = palette[:, :, :1, None] * (1 + draws.uniform(count, 1, 1, 1, low=0.05, high=0.3) * rough)
    edge = (block / 2 - local.abs()).amin(1, keepdim=True) + 2
    on_paper = (edge + 0.5).clamp(0, 1) * (bare < 0.8)
    framed = (1.5 - (edge - 3).abs()).clamp(0, 1) * (bare < 0.3)
    image = paint(wall, paper * (1 + 0.08 * fine), on_paper)
    image = paint(image, ink, framed)
    peeled = (4 * (rough - draws.uniform(count, 1, 1, 1, low=0.8, high=4.0))).clamp(0, 1)
    return paint(paint(image, ink * (1 + 0.1 * fine), ink_cover), wall, peeled)


def _lines_of_text(
    local: Float[Tensor, "count 2 h w"],
    block: Float[Tensor, "count 2 h w"],
    rows: Float[Tensor, "count 1 h w"],
    bold: Float[Tensor, "count 1 h w"],
    seed: Float[Tensor, "count 1 h w"],
    draws: Draws,
) -> Float[Tensor, "count 1 h w"]:
    """Coverage of the ink: words in rows that fill each block.

    Args:
        local: Place in the block, from its centre, in texels.
        block: Width and height of the block in texels.
        rows: In [0, 1): how many rows, from one to as many as can be made out.
    """
    count = local.shape[0]
    width, height = block.clamp_min(8).split(1, 1)
    num_rows = ((height / 7).clamp_min(1) ** rows).floor()
    row_height = height / num_rows
    letter_height = 0.72 * row_height
    column_width = 0.66 * letter_height
    x, y = local.split(1, 1)
    x, y = (x + width / 2) / column_width, (y + height / 2) / row_height
    column, row = x.floor(), y.floor()
    inside = (x > 0) & (column + 1 < width / column_width) & (y > 0) & (row < num_rows)

    # The letter at (row, column) of this block: a random entry, another one for every place and block.
    entries = 4096
    entry = ((seed * entries).floor() + 131 * row + 17 * column).remainder(entries)
    letter = look_up(draws.uniform(count, 1, entries), entry) * (LETTERS * 1.15)
    written = inside & (letter < LETTERS)
    letter = letter.floor().clamp(0, LETTERS - 1)
    across, down = (x - column - 0.5) / 0.88, (y - row - 0.5) / 0.72
    alphabet = _alphabet(count, draws)
    sample_x = (letter + across.clamp(-0.47, 0.47) + 0.5) * (2 / LETTERS) - 1
    grid = torch.cat([sample_x, down.clamp(-0.48, 0.48) * 2], 1).movedim(1, -1)
    distance = F.grid_sample(alphabet, grid, mode="bilinear", padding_mode="border", align_corners=False)
    stroke = 0.035 + 0.06 * bold
    return ((stroke - distance) * letter_height + 0.5).clamp(0, 1) * written * (down.abs() < 0.5)


def _alphabet(count: int, draws: Draws) -> Float[Tensor, "count 1 height width_of_all"]:
    """Distance to the nearest stroke, in heights of a letter; the letters stand side by side."""
    x = (torch.arange(WIDTH, device=draws.device) + 0.5) / WIDTH * (WIDTH / HEIGHT) - 0.5 * WIDTH / HEIGHT
    y = (torch.arange(HEIGHT, device=draws.device) + 0.5) / HEIGHT - 0.5
    x, y = x[None, None, None], y[None, None, :, None]
    distance = torch.full((count, LETTERS, HEIGHT, WIDTH), 1.0, device=draws.device)
    for stroke in range(4):
        distance = torch.minimum(distance, _straight_stroke(x, y, count, stroke, draws))
    for _ in range(2):
        distance = torch.minimum(distance, _bowl(x, y, count, draws))
    return distance.movedim(1, 2).flatten(2)[:, None]


def _nodes(count: int, draws: Draws) -> tuple[Float[Tensor, "count letters 1 1"], Float[Tensor, "count letters 1 1"]]:
    """Points on the 3 × 3 nodes where strokes begin and end."""
    x, y = ((draws.uniform(2, count, LETTERS, 1, 1) * 3).floor() - 1).unbind(0)
    return 0.22 * x, 0.38 * y


def _straight_stroke(x, y, count: int, stroke: int, draws: Draws) -> Float[Tensor, "count letters height width"]:
    """Distance to a segment between two nodes: stems and bars mostly, some diagonals, absent in some letters."""
    (x1, y1), (x2, y2) = _nodes(count, draws), _nodes(count, draws)
    kind = draws.uniform(count, LETTERS, 1, 1)
    x2 = torch.where(kind < 0.45, x1, x2)
    y1, y2 = torch.where(kind < 0.3, -0.38, y1), torch.where(kind < 0.3, 0.38, y2)
    y2 = torch.where((kind > 0.45) & (kind < 0.8), y1, y2)
    dx, dy = x2 - x1, y2 - y1
    along = (((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy).clamp_min(1e-6)).clamp(0, 1)
    distance = torch.sqrt((x - x1 - along * dx) ** 2 + (y - y1 - along * dy) ** 2)
    absent = draws.chance(count, LETTERS, 1, 1, probability=0.12 * stroke)
    return distance + absent


def _bowl(x, y, count: int, draws: Draws) -> Float[Tensor, "count letters height width"]:
    """Distance to a circle or a half of one, in the upper or the lower half of the letter."""
    radius = draws.uniform(count, LETTERS, 1, 1, low=0.15, high=0.21)
    _, centre_y = _nodes(count, draws)
    angle = (draws.uniform(count, LETTERS, 1, 1) * 4).floor() * (math.pi / 2)
    cosine, sine = angle.cos(), angle.sin()
    y = y - 0.5 * centre_y
    ahead, aside = cosine * x + sine * y, cosine * y - sine * x
    ring = (torch.sqrt(x * x + y * y) - radius).abs()
    ends = torch.sqrt((aside.abs() - radius) ** 2 + ahead**2)
    whole = draws.chance(count, LETTERS, 1, 1, probability=0.3)
    absent = draws.chance(count, LETTERS, 1, 1, probability=0.55)
    return torch.where((ahead > 0) | (whole > 0), ring, ends) + absent
