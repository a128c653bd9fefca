"""Laws of points carried from one view to the other through a depth map."""

from itertools import product

import pytest
import torch

from rfp.geometry.depth import inverse_depth_at, transferred_points


def plane(height=12, width=16):
    """Inverse depth affine in the pixel, as a plane has it."""
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return 0.3 + 0.005 * x - 0.003 * y


def test_the_inverse_depth_of_a_plane_is_exact_between_the_pixels():
    xy = torch.tensor([[3.25, 4.5], [0.0, 0.0], [15.0, 11.0], [7.0, 11.0]], dtype=torch.float64)
    inverse, known = inverse_depth_at(1 / plane(), xy)
    assert bool(known.all())
    torch.testing.assert_close(inverse, 0.3 + 0.005 * xy[:, 0] - 0.003 * xy[:, 1])


def test_depth_is_unknown_outside_beside_a_hole_and_on_an_edge():
    depth = torch.full((12, 16), 4.0)
    depth[:, 8:] = 2.0
    depth[5, 3] = 0.0
    depth[9, 3] = float("nan")
    depth[9, 4] = 1e-45  # denormal: its inverse would be infinite
    xy = torch.tensor([[-0.1, 2.0], [2.0, 11.2], [2.5, 5.0], [3.0, 8.5], [7.5, 2.0], [torch.nan, 2.0], [1.0, 2.0]])
    inverse, known = inverse_depth_at(depth, xy)
    assert known.tolist() == [False] * 6 + [True]
    assert bool(inverse.isfinite().all())


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,)])
def test_batches_are_single_calls_and_a_map_broadcasts_against_draws(batch):
    depth = 1 / plane().expand(*batch, -1, -1)
    xy = 2 + 8 * torch.rand(*batch, 3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inverse, known = inverse_depth_at(depth[..., None, :, :], xy)
    assert inverse.shape == known.shape == (*batch, 3, 5)
    for at in product(*(range(n) for n in batch)):
        single, _ = inverse_depth_at(1 / plane(), xy[at][1])
        assert torch.equal(inverse[at][1], single)


def test_a_map_of_one_row_is_read_along_it():
    inverse, known = inverse_depth_at(torch.tensor([[2.0, 2.0, 2.0]]), torch.tensor([[1.5, 0.0], [1.5, 1.0]]))
    assert inverse[0] == 0.5
    assert known.tolist() == [True, False]


def test_the_gradient_at_a_point_is_the_slope_of_the_plane():
    xy = torch.tensor([[3.25, 4.5]], dtype=torch.float64, requires_grad=True)
    inverse_depth_at(1 / plane(), xy)[0].sum().backward()
    torch.testing.assert_close(xy.grad, torch.tensor([[0.005, -0.003]], dtype=torch.float64))


def test_points_are_seen_where_their_world_point_projects_and_come_back():
    draw = torch.Generator().manual_seed(1)
    axis = torch.tensor([[0.0, -0.2, 0.1], [0.2, 0.0, -0.3], [-0.1, 0.3, 0.0]], dtype=torch.float64)
    R, t = torch.linalg.matrix_exp(axis), torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    x1 = torch.rand(20, 2, generator=draw, dtype=torch.float64) - 0.5
    z = 2 + torch.rand(20, generator=draw, dtype=torch.float64)
    X2 = torch.cat([x1, torch.ones(20, 1)], dim=1) * z[:, None] @ R.T + t
    x2, inverse = transferred_points(x1, 1 / z, R, t)
    torch.testing.assert_close(x2, X2[:, :2] / X2[:, 2:])
    torch.testing.assert_close(inverse, 1 / X2[:, 2])
    again, _ = transferred_points(x2, inverse, R.T, -R.T @ t)
    torch.testing.assert_close(again, x1)


def test_a_point_behind_the_second_camera_is_masked_and_finite():
    x2, inverse = transferred_points(torch.zeros(1, 2), torch.ones(1), torch.eye(3), torch.tensor([0.0, 0.0, -1.0]))
    assert inverse.item() == 0.0
    assert bool(x2.isfinite().all())
