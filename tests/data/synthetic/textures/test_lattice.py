import pytest
import torch

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.lattice import Lattice, draw_crowd, draw_lattice, draw_table, look_up, voronoi
from rfp.data.synthetic.textures.noise import texel_grid


@pytest.fixture
def draws():
    return Draws(torch.Generator().manual_seed(0), torch.device("cpu"))


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("cells", [(0.1, 0.5), (1.0, 3.0), (4.0, 40.0)])
def test_lattices_are_whole_and_never_singular(draws, cells, even):
    lattice = draw_lattice(2000, draws, cells=cells, aspect=(0.3, 6.0), even=even)
    assert torch.equal(lattice.matrix, lattice.matrix.round())
    assert torch.linalg.det(lattice.matrix).abs().min() > 0.5
    if even:
        assert (lattice.matrix % 2 == 0).all()


def test_the_inverse_takes_cell_coordinates_back(draws):
    lattice = draw_lattice(50, draws, cells=(2.0, 30.0), aspect=(0.5, 2.0))
    identity = torch.eye(2).expand(50, 2, 2)
    torch.testing.assert_close(lattice.matrix @ lattice.inverse, identity, atol=1e-5, rtol=0)


def test_cells_are_the_same_one_turn_around_the_torus(draws):
    lattice = draw_lattice(200, draws, cells=(2.0, 30.0), aspect=(0.5, 2.0))
    xy = texel_grid(32, draws)
    here = lattice.cells(lattice.coordinates(xy))
    there = lattice.cells(lattice.coordinates(xy + torch.tensor([1.0, -1.0])[:, None, None]))
    # Texels within rounding of a cell's border may fall to either side.
    inner = here.local.abs().amax(1) < 0.499
    assert ((here.local - there.local).abs().amax(1)[inner] < 1e-4).all()
    # Rounding decides for cells whose centre is within 1e-4 of a border between two entries: one in thousands.
    assert (here.label != there.label)[:, 0][inner].float().mean() < 1e-3


def test_cells_of_a_lattice_have_entries_of_their_own(draws):
    """As many entries are read as there are cells, det M, and each over an equal share of the texture."""
    lattice = Lattice(torch.tensor([[3.0, 4.0], [-4.0, 3.0]])[None], torch.zeros(1, 2))
    label = lattice.cells(lattice.coordinates(texel_grid(100, draws))).label
    entries, texels = label.unique(return_counts=True)
    assert len(entries) == 25
    torch.testing.assert_close(texels.float() / 100**2, torch.full((25,), 1 / 25), atol=2e-3, rtol=0)


def test_looking_up_agrees_with_gather(draws):
    table = draw_table(3, 4, draws)
    label = (draws.uniform(3, 1, 8, 8) * table.shape[-1]).floor()
    expected = table.gather(2, label.flatten(2).long().expand(-1, 4, -1)).unflatten(2, (8, 8))
    assert torch.equal(look_up(table, label), expected)


def test_neighbours_in_a_crowd_are_alike(draws):
    crowd = draw_crowd(20, draws).unflatten(2, (48, 48))
    assert (crowd - crowd.roll(1, -1)).std() < 0.6 * crowd.std()


def test_voronoi_agrees_with_all_seeds_compared(draws):
    """Twin: every seed of an upright lattice and its eight copies around the torus, by brute force."""
    side, count = 5, 3
    lattice = Lattice(side * torch.eye(2).expand(count, 2, 2), torch.zeros(count, 2))
    jitter = draw_table(count, 2, draws)
    xy = texel_grid(40, draws)
    tiling = voronoi(lattice, xy, jitter)

    corner = (
        torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"))
        .float()
        .expand(count, -1, -1, -1)
    )
    label = lattice.cells(corner + 0.5).label
    seeds = ((corner + look_up(jitter, label)) / side).flatten(2)
    offset = (xy.flatten(2)[..., :, None] - seeds[:, :, None] + 0.5) % 1 - 0.5
    distance, index = torch.linalg.vector_norm(offset, dim=1).sort(-1)
    torch.testing.assert_close(tiling.nearest.flatten(1), distance[..., 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(tiling.border.flatten(1), distance[..., 1] - distance[..., 0], atol=1e-5, rtol=0)
    assert torch.equal(tiling.label.flatten(1), label.flatten(1).gather(1, index[..., 0]))
