"""Lattices that close on the torus at any angle and scale, with random numbers of their own for every cell.

c = M u with an integer matrix M maps the unit torus onto cells c ∈ Z²: going once around the texture moves c by whole
cells, so the pattern wraps, whatever its rotation and scale. What a cell looks like is read from a table of random
numbers at the place of the cell's centre in the texture, M⁻¹ (⌊c⌋ + ½) mod 1, so that cells differ and still agree
across the seam.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws

TABLE = 64


@dataclass(frozen=True)
class Lattice:
    """One lattice for each texture."""

    matrix: Float[Tensor, "count 2 2"]
    """M: whole numbers, never singular."""

    def coordinates(self, xy: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "count 2 h w"]:
        """c = M u."""
        x, y = xy[:, :1], xy[:, 1:]
        m = self.matrix[..., None, None]
        return m[:, :, 0] * x + m[:, :, 1] * y

    def positions(self, c: Float[Tensor, "count 2 h w"]) -> Float[Tensor, "count 2 h w"]:
        """u = M⁻¹ c."""
        m = self.matrix[..., None, None]
        a, b, d, e = m[:, :1, 0], m[:, :1, 1], m[:, 1:, 0], m[:, 1:, 1]
        determinant = a * e - b * d
        x, y = c[:, :1], c[:, 1:]
        return torch.cat([(e * x - b * y) / determinant, (a * y - d * x) / determinant], 1)

    def look_up(
        self, table: Float[Tensor, "count channels t t"], cell: Float[Tensor, "count 2 h w"]
    ) -> Float[Tensor, "count channels h w"]:
        """The numbers of the cells whose lower corner (whole numbers) is given."""
        side = table.shape[-1]
        # A third of a step keeps the centres off the borders of the table, where rounding would decide.
        index = ((self.positions(cell + 0.5) * side + 1 / 3).floor().long()) % side
        flat = (index[:, 1:] * side + index[:, :1]).flatten(2)
        values = table.flatten(2).gather(2, flat.expand(-1, table.shape[1], -1))
        return values.unflatten(2, cell.shape[-2:])


def draw_lattice(
    count: int,
    draws: Draws,
    *,
    cells: tuple[float, float],
    aspect: tuple[float, float] = (1.0, 1.0),
    tilt: float = 1.0,
    even_rows: bool = False,
) -> Lattice:
    """A lattice a texture.

    Args:
        cells: Range of the number of cells along one side of the texture.
        aspect: Range of width over height of a cell.
        tilt: Share of lattices at any angle; the others lie along the axes.
        even_rows: Rows come in pairs, so that every second one can be shifted by half a cell.
    """
    number = draws.log_uniform(count, low=cells[0], high=cells[1])
    ratio = draws.log_uniform(count, low=aspect[0], high=aspect[1]).sqrt()
    turned = draws.chance(count, probability=tilt)
    quarter = (draws.uniform(count) * 4).floor()
    angle = (turned * draws.uniform(count, low=-0.5, high=0.5) + quarter) * (torch.pi / 2)
    cosine, sine = angle.cos(), angle.sin()
    along = torch.stack([cosine, sine], -1) * (number / ratio)[:, None]
    across = torch.stack([-sine, cosine], -1) * (number * ratio)[:, None]
    step = 2 if even_rows else 1
    along, across = along.round(), (across / step).round() * step
    # Rounding may have left a vector of zeros or two parallel ones: such lattices become upright.
    singular = (along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]).abs() < 0.5
    upright = torch.stack([torch.ones_like(sine), torch.zeros_like(sine)], -1)
    upright_rows = step * upright.flip(-1)
    matrix = torch.stack(
        [torch.where(singular[:, None], upright, along), torch.where(singular[:, None], upright_rows, across)], 1
    )
    return Lattice(matrix)


@dataclass(frozen=True)
class Voronoi:
    """The Voronoi cells of a jittered lattice, in units of the texture's side."""

    nearest: Float[Tensor, "count 1 h w"]
    """Distance to the nearest seed."""
    border: Float[Tensor, "count 1 h w"]
    """Difference between the second and the first distance: 0 on the borders."""
    cell: Float[Tensor, "count 2 h w"]
    """The lattice cell whose seed is the nearest."""


def voronoi(lattice: Lattice, xy: Float[Tensor, "n 2 h w"], jitter: Float[Tensor, "count 2 t t"]) -> Voronoi:
    """Voronoi cells whose seeds are ``jitter`` in [0, 1) away from their cells' corners: nearest of 3×3 cells."""
    c = lattice.coordinates(xy)
    corner = c.floor()
    best = second = best_cell = None
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            cell = torch.cat([corner[:, :1] + dx, corner[:, 1:] + dy], 1)
            offset = lattice.positions(cell + lattice.look_up(jitter, cell) - c)
            distance = offset.square().sum(1, keepdim=True)
            if best is None:
                best, second, best_cell = distance, torch.full_like(distance, 4.0), cell
                continue
            closer = distance < best
            second = torch.where(closer, best, torch.minimum(second, distance))
            best_cell = torch.where(closer, cell, best_cell)
            best = torch.minimum(best, distance)
    nearest = best.sqrt()
    return Voronoi(nearest, second.sqrt() - nearest, best_cell)
