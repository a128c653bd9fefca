"""The four-point solver of homographies against planes with a known one."""

import numpy as np
import pytest
import torch

from rfp.geometry.homography import four_point, four_point_planes, homography_dlt
from tests.geometry.planes import PlaneViews, at_unit_norm, in_pixels, transfer, views_of_planes
from tests.sync_deny_list import no_host_visits


def distance(H: torch.Tensor, H_true: torch.Tensor) -> torch.Tensor:
    """Frobenius distance of matrices of norm 1, the sign included."""
    return torch.linalg.matrix_norm(H.double() - H_true)


@pytest.fixture(scope="module")
def views() -> PlaneViews:
    return views_of_planes(10000, 4, 0)


@pytest.mark.parametrize("unit", ["normalised", "pixels"])
def test_exact_points_give_the_true_homography(views, unit):
    views = in_pixels(views) if unit == "pixels" else views
    H, valid = four_point(views.x1, views.x2)
    assert valid.all()
    error = distance(H, views.H)
    assert (error < 1e-11).double().mean() >= 0.995
    assert error.max() < 1e-8
    assert distance(H.mT, views.H).median() > 1e-3


def test_float32_points_lose_little(views):
    H, valid = four_point(views.x1.float(), views.x2.float())
    assert H.dtype == torch.float32
    assert (valid & (distance(H, views.H) < 1e-3)).double().mean() >= 0.985
    coarse, valid = four_point(views.x1.float(), views.x2.float(), solver_dtype=torch.float32)
    assert (valid & (distance(coarse, views.H) < 1e-2)).double().mean() >= 0.985


def test_strong_perspective_over_large_coordinates_is_solved():
    """COLMAP's kind of case: entries from tenths to tens, depths w from one to hundreds."""
    steps = torch.arange(10, dtype=torch.float64)
    H_true = torch.zeros(10, 3, 3, dtype=torch.float64)
    H_true[:] = torch.tensor([[0.4, 0.3, 0.2], [25.0, 0.3, 0.2], [0.2, 15.0, 1.0]])
    H_true[:, 0, 0] += steps
    x1 = torch.tensor([[12.0, 0.0], [1.0, 0.0], [3.0, 1.0], [8.0, 40.0]], dtype=torch.float64).repeat(10, 1, 1)
    x1[:, 0, 0] += steps
    x2 = transfer(H_true, x1)
    H, valid = four_point(x1, x2)
    assert valid.all()
    assert (transfer(H, x1) - x2).square().sum(dim=-1).max() < 1e-9
    refit, valid = homography_dlt(x1, x2)
    assert valid.all()
    assert (transfer(refit, x1) - x2).square().sum(dim=-1).max() < 1e-3


def test_the_norm_is_one_and_the_four_points_are_in_front(views):
    H, valid = four_point(views.x1, views.x2)
    torch.testing.assert_close(torch.linalg.matrix_norm(H), valid.double())
    w = (views.x1 * H[:, None, 2, :2]).sum(dim=-1) + H[:, 2, 2, None]
    assert (w > 0).all()
    assert (torch.linalg.det(H) > 0).all()


def test_a_null_vector_in_numpy_is_the_same_homography(views):
    x1, x2 = views.x1[:200], views.x2[:200]
    H, _ = four_point(x1, x2)
    for first, second, found in zip(x1.numpy(), x2.numpy(), H.numpy()):
        p = np.concatenate((first, np.ones((4, 1))), axis=1)
        zero = np.zeros_like(p)
        rows = np.concatenate(
            (np.hstack((-p, zero, second[:, :1] * p)), np.hstack((zero, -p, second[:, 1:] * p))), axis=0
        )
        expected = np.linalg.svd(rows)[2][-1].reshape(3, 3)
        expected *= np.sign(p[0] @ expected[2])
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_swapping_images_inverts_H(views):
    H, _ = four_point(views.x1, views.x2)
    swapped, valid = four_point(views.x2, views.x1)
    assert valid.all()
    product = at_unit_norm(swapped @ H)
    assert ((product - torch.eye(3).double() / 3**0.5).flatten(1).norm(dim=1) < 1e-9).double().mean() > 0.995


def test_the_order_of_the_points_does_not_matter(views):
    order = [2, 0, 3, 1]
    H, _ = four_point(views.x1, views.x2)
    reordered, valid = four_point(views.x1[:, order], views.x2[:, order])
    assert valid.all()
    assert (distance(H, reordered) < 1e-10).double().mean() > 0.995


def test_a_point_behind_a_camera_is_not_seen():
    """Points beyond the horizon of H turn triples round, and so do four of them: det H > 0 with w < 0 is a mirror."""
    H = torch.tensor([[1.0, 0.1, 0.2], [0.0, 1.0, 0.1], [1.0, 0.3, 1.0]], dtype=torch.float64).expand(500, 3, 3)
    generator = torch.Generator().manual_seed(1)
    x1 = 3 * torch.rand(500, 4, 2, generator=generator, dtype=torch.float64) - 1.5
    x1 = x1 * torch.tensor([1.0, 0.2], dtype=torch.float64)
    w = (x1 * H[:, None, 2, :2]).sum(dim=-1) + 1
    _, valid = four_point(x1, transfer(H, x1))
    assert ((w < 0).all(dim=1)).any()
    in_front = (w > 0).all(dim=1)
    assert 50 < in_front.sum() < 450
    assert torch.equal(valid, in_front)


def degenerate_samples(x1: torch.Tensor, x2: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    def with_point(points, index, value):
        changed = points.clone()
        changed[index] = value
        return changed

    def collinear(points, a, b, c):
        return with_point(points, a, 0.3 * points[b] + 0.7 * points[c])

    everything_on_a_line = torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=x1.dtype)[:, None] * (x1[1] - x1[0]) + x1[0]
    mirror = torch.tensor([-1.0, 1.0], dtype=x1.dtype)
    return {
        "three points on a line in image 1": (collinear(x1, 0, 1, 2), x2),
        "three points on a line in image 2": (x1, collinear(x2, 1, 2, 3)),
        "three points on a line with the fourth": (collinear(x1, 3, 0, 1), collinear(x2, 3, 0, 1)),
        "three points on a line across the fourth": (collinear(x1, 0, 3, 2), x2),
        "all points on a line": (everything_on_a_line, x2),
        "a match repeated": (with_point(x1, 3, x1[0]), with_point(x2, 3, x2[0])),
        "a point of image 1 repeated": (with_point(x1, 1, x1[2]), x2),
        "one point": (x1[:1].expand(4, 2), x2),
        "zeros": (torch.zeros_like(x1), torch.zeros_like(x2)),
        "a mirror image": (x1, x2 * mirror),
        "two points exchanged": (x1, x2[[1, 0, 2, 3]]),
        "NaN": (with_point(x1, 2, torch.nan), x2),
        "infinity": (x1, with_point(x2, 3, torch.inf)),
        "infinities": (torch.full_like(x1, torch.inf), torch.full_like(x2, -torch.inf)),
    }


@pytest.mark.parametrize("name", degenerate_samples(torch.rand(4, 2), torch.rand(4, 2)))
@pytest.mark.parametrize("seed", range(5))
def test_a_degenerate_sample_is_masked_and_leaves_its_neighbours_alone(name, seed):
    views = views_of_planes(9, 4, seed)
    x1, x2 = views.x1.clone(), views.x2.clone()
    H, valid = four_point(x1, x2)
    assert valid.all()
    x1[4], x2[4] = degenerate_samples(views.x1[4], views.x2[4])[name]
    H_with, valid_with = four_point(x1, x2)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(H[others], H_with[others])
    assert valid_with[others].all()
    assert not valid_with[4]
    assert not H_with[4].any()


@pytest.mark.parametrize("offset", [0.0, 300.0, 1e6])
def test_lines_are_seen_despite_rounding(offset):
    """Points that are rounded to float64 lie on a line up to that rounding only."""
    generator = torch.Generator().manual_seed(2)
    ends = torch.rand(3, 1000, 2, generator=generator, dtype=torch.float64) + offset
    along = torch.rand(1000, 1, generator=generator, dtype=torch.float64)
    x1 = torch.stack((ends[0], ends[1], ends[0] + along * (ends[1] - ends[0]), ends[2]), dim=1)
    _, valid = four_point(x1, views_of_planes(1000, 4, 3).x2)
    assert not valid.any()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (3, 0)])
def test_any_batch_shape_is_the_stack_of_single_calls(batch):
    points = torch.rand(*batch, 2, 4, 2, generator=torch.Generator().manual_seed(0))
    H, valid = four_point(points[..., 0, :, :], points[..., 1, :, :])
    assert H.shape == (*batch, 3, 3)
    assert valid.shape == batch
    assert H.dtype == torch.float32
    for problem, H_there, valid_there in zip(points.reshape(-1, 2, 4, 2), H.reshape(-1, 3, 3), valid.reshape(-1)):
        H_alone, valid_alone = four_point(problem[0], problem[1])
        assert torch.equal(H_alone, H_there)
        assert torch.equal(valid_alone, valid_there)


def test_the_solver_runs_on_meta_without_a_denied_operation():
    points = torch.empty(2, 2, 3, 4, 2, device="meta")
    with no_host_visits():
        H, valid = four_point(points[0], points[1])
    assert H.shape == (2, 3, 3, 3)
    assert valid.shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_is_solved_to_the_same_bits_wherever_it_stands(dtype):
    x1, x2 = torch.rand(2, 4, 2, 2003, generator=torch.Generator().manual_seed(0), dtype=dtype)
    H, _ = four_point_planes(x1, x2)
    for part in (slice(0, 7), slice(1000, 1013), slice(1990, 2003)):
        alone, _ = four_point_planes(x1[..., part].contiguous(), x2[..., part].contiguous())
        assert torch.equal(alone, H[:, part])
