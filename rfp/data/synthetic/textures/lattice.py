"""Lattices that close on the torus at any angle and scale, with random numbers of their own for every cell.

c = M u + φ with an integer matrix M maps the unit torus onto cells c ∈ Z²: going once around the texture moves c by
whole cells, so the pattern wraps, whatever its angle and scale. What a cell looks like is read from a table of random
numbers at the place M⁻¹ (⌊c⌋ + ½) mod 1 in the texture: it is the same on both sides of the seam, and another one for
every cell.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.noise import spectral_noise

TABLE = 48
"""Side of the tables of random numbers: lattices with more cells a side than this share some of them."""


@dataclass(frozen=True)
class Cells:
    """The cell of each texel."""

    local: Float[Tensor, "count 2 h w"]
    """The texel in its cell, from the cell's centre, in [-½, ½)."""
    corner: Float[Tensor, "count 2 h w"]
    """⌊c⌋, whole numbers."""
    label: Float[Tensor, "count 1 h w"]
    """The cell's entry in tables of random numbers: a whole number."""


@dataclass(frozen=True)
class Lattice:
    """One lattice for each texture of a batch."""

    matrix: Float[Tensor, "count 2 2"]
    """M: whole numbers, not singular."""
    phase: Float[Tensor, "count 2"]
    """φ: where the cells begin."""

    @cached_property
    def inverse(self) -> Float[Tensor, "count 2 2"]:
        """M⁻¹."""
        (a, b), (c, d) = (row.unbind(-1) for row in self.matrix.unbind(-2))
        adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
        return adjugate / (a * d - b * c)[:, None, None]

    @cached_property
    def cell_size(self) -> Float[Tensor, "count 2 1 1"]:
        """Distance between opposite sides of a cell, along its width and height, in sides of the texture."""
        return torch.linalg.vector_norm(self.matrix, dim=-1)[..., None, None].reciprocal()

    def coordinates(self, xy: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "count 2 h w"]:
        """c = M u + φ."""
        return _times(self.matrix, xy) + self.phase[..., None, None]

    def in_texture(self, vector: Float[Tensor, "count 2 h w"]) -> Float[Tensor, "count 2 h w"]:
        """M⁻¹ v: a difference of cell coordinates as one of the texture's."""
        return _times(self.inverse, vector)

    def cells(self, c: Float[Tensor, "count 2 h w"]) -> Cells:
        """The cells that cell coordinates lie in."""
        corner = c.floor()
        return Cells(c - corner - 0.5, corner, table_label(self.table_place(corner)))

    def table_place(self, corner: Float[Tensor, "count 2 h w"]) -> Float[Tensor, "count 2 h w"]:
        """Where the table is read for the cells with these corners, in sides of the texture, before wrapping."""
        # The golden share of an entry keeps centres, which are fractions, off the borders between entries, where
        # rounding decides; four turns keep the places positive.
        centre = self.inverse.sum(-1)[..., None, None] * 0.5 + (4 + 0.618 / TABLE)
        return _times(self.inverse, corner) + centre


def table_label(place: Float[Tensor, "count 2 h w"]) -> Float[Tensor, "count 1 h w"]:
    """The entry of a flattened table at a place, wrapped; a float, exact, because it is cheap to compute with."""
    entry = (place.frac() * TABLE).floor()
    return entry[:, 1:] * TABLE + entry[:, :1]


def look_up(
    table: Float[Tensor, "count channels entries"], label: Float[Tensor, "count 1 h w"]
) -> Float[Tensor, "count channels h w"]:
    """The numbers that a table holds for each texel's label."""
    count, channels, entries = table.shape
    # One index for all channels, with the textures side by side: 2 to 4 times as fast as gather on a CPU.
    side_by_side = table.movedim(0, 1).reshape(channels, count * entries)
    first = torch.arange(count, device=table.device, dtype=torch.int32)[:, None] * entries
    index = (label.flatten(1).int() + first).flatten()
    return side_by_side.index_select(1, index).view(channels, count, *label.shape[2:]).movedim(0, 1)


def draw_table(count: int, channels: int, draws: Draws) -> Float[Tensor, "count channels entries"]:
    """Uniform numbers for the cells of a lattice."""
    return draws.uniform(count, channels, TABLE * TABLE)


def draw_crowd(count: int, draws: Draws) -> Float[Tensor, "count 1 entries"]:
    """A table in which neighbouring cells are alike, zero mean and unit deviation: crowded places and empty ground."""
    return spectral_noise(count, 1, TABLE, draws, slope=draws.constant(count, value=1.5)).flatten(2)


def draw_lattice(
    count: int,
    draws: Draws,
    *,
    cells: tuple[float, float],
    aspect: tuple[float, float] = (1.0, 1.0),
    tilt: float = 1.0,
    even: bool = False,
) -> Lattice:
    """A lattice for each texture.

    Args:
        cells: Range of the number of cells along one side of the texture.
        aspect: Range of width over height of a cell.
        tilt: Share of lattices at any angle; the others lie along the axes.
        even: Rows and columns come in pairs, so that every second one can be another.
    """
    number = draws.log_uniform(count, low=cells[0], high=cells[1])
    ratio = draws.log_uniform(count, low=aspect[0], high=aspect[1]).sqrt()
    turned = draws.chance(count, probability=tilt)
    quarter = (draws.uniform(count) * 4).floor()
    angle = (turned * draws.uniform(count, low=-0.5, high=0.5) + quarter) * (math.pi / 2)
    step = 2 if even else 1
    # Vectors of length 1 and more turn by at most 30° when rounded, so that two normal ones never become parallel.
    along = torch.stack([angle.cos(), angle.sin()], -1) * (number / ratio / step).clamp_min(1)[:, None]
    across = torch.stack([-angle.sin(), angle.cos()], -1) * (number * ratio / step).clamp_min(1)[:, None]
    return Lattice(step * torch.stack([along.round(), across.round()], 1), draws.uniform(count, 2))


def _times(matrix: Float[Tensor, "count 2 2"], xy: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "count 2 h w"]:
    columns = matrix[..., None, None]
    return columns[:, :, 0] * xy[:, :1] + columns[:, :, 1] * xy[:, 1:]


@dataclass(frozen=True)
class Voronoi:
    """The Voronoi cells of a jittered lattice; distances in sides of the texture."""

    nearest: Float[Tensor, "count 1 h w"]
    """Distance to the nearest seed."""
    border: Float[Tensor, "count 1 h w"]
    """Difference between the second distance and the first: 0 on the borders."""
    label: Float[Tensor, "count 1 h w"]
    """The cell's entry in tables of random numbers."""


def voronoi(lattice: Lattice, xy: Float[Tensor, "n 2 h w"], jitter: Float[Tensor, "count 2 entries"]) -> Voronoi:
    """Voronoi cells whose seeds lie at ``jitter`` in [0, 1) of their lattice cells: the nearest of 3 × 3."""
    c = lattice.coordinates(xy)
    corner = c.floor()
    inside, place = c - corner, lattice.table_place(corner)
    # Squared lengths in the texture of differences in cell coordinates: vᵀ (M⁻ᵀ M⁻¹) v.
    (a, b), (_, d) = (row.unbind(-1) for row in (lattice.inverse.mT @ lattice.inverse).unbind(-2))
    a, b, d = (value[:, None, None, None] for value in (a, 2 * b, d))
    steps = lattice.inverse[..., None, None]
    nearest = torch.full_like(inside[:, :1], 4.0)
    second, label = nearest, torch.zeros_like(nearest)
    for dx, dy in itertools.product((-1, 0, 1), repeat=2):
        candidate = table_label(place + (dx * steps[:, :, 0] + dy * steps[:, :, 1]))
        x, y = (look_up(jitter, candidate) - inside).split(1, 1)
        x, y = x + dx, y + dy
        distance = (a * x + b * y) * x + d * (y * y)
        second = torch.minimum(second, torch.maximum(nearest, distance))
        label = torch.lerp(label, candidate, (distance < nearest).float())
        nearest = torch.minimum(nearest, distance)
    nearest = nearest.sqrt()
    return Voronoi(nearest, second.sqrt() - nearest, label)
