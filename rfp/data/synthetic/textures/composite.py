"""A family made of the others: posters, patches and panels on a ground."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import texel_grid

SOURCES = 2
"""Textures that one poster wall is made of: a ground, and what is stuck on it beside pieces of the ground itself."""


def posters(sources: Float[Tensor, "sources count 3 size size"], draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """The first source as ground with rectangles cut out of all sources, two layers of them, each turned and lit."""
    num_sources, count, _, size, _ = sources.shape
    image = sources[0]
    side_by_side = sources.permute(1, 2, 3, 0, 4).flatten(3)
    xy = texel_grid(size, draws)
    for cells in ((1.5, 3.0), (3.0, 6.0)):
        lattice = draw_lattice(count, draws, cells=cells, aspect=(0.5, 2.0), tilt=0.4)
        place = lattice.cells(lattice.coordinates(xy))
        table = look_up(draw_table(count, 8, draws), place.label)
        offset, extent, source, turn, lightness, present = table.split([2, 2, 1, 1, 1, 1], 1)
        texels = lattice.cell_size * size
        inside = ((0.25 + 0.22 * extent - place.local.abs()) * texels).amin(1, keepdim=True)
        local = lattice.in_texture(place.local)
        turned = (turn < 0.3).float().expand_as(local)
        local = torch.lerp(local, torch.cat([local[:, 1:], -local[:, :1]], 1), turned)
        x, y = (local * (0.6 + 0.4 * lightness) + offset).remainder(1).split(1, 1)
        column = ((source * num_sources).floor() + x) / num_sources
        grid = torch.cat([column, y], 1).movedim(1, -1) * 2 - 1
        cut = F.grid_sample(side_by_side, grid, mode="bilinear", padding_mode="border", align_corners=False)
        coverage = (inside + 0.5).clamp(0, 1) * (present < 0.6)
        image = image * (1 - 0.4 * (0.3 * inside + 1).clamp(0, 1) * (present < 0.6))
        image = paint(image, cut * (0.6 + 0.7 * lightness), coverage)
    return image
