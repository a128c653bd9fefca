"""Homographies from four points and from many, against planes with a known one."""

import cv2
import kornia.geometry.homography as kornia_homography
import numpy as np
import pytest
import torch

from rfp.geometry.homography import four_point, homography_dlt
from tests.geometry.planes import PlaneViews, at_unit_norm, in_pixels, transfer, views_of_planes
from tests.sync_deny_list import no_host_visits


def distance(H: torch.Tensor, H_true: torch.Tensor) -> torch.Tensor:
    """Frobenius distance of matrices of norm 1, the sign included."""
    return torch.linalg.matrix_norm(H.double() - H_true)


@pytest.fixture(scope="module")
def views() -> PlaneViews:
    return views_of_planes(10000, 4, 0)


# --- four points


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


# --- many points


def noisy(views: PlaneViews, seed: int, sigma: float = 0.003) -> PlaneViews:
    generator = torch.Generator().manual_seed(seed)
    noise = sigma * torch.randn(2, *views.x1.shape, generator=generator, dtype=torch.float64)
    return PlaneViews(views.x1 + noise[0], views.x2 + noise[1], views.H)


@pytest.mark.parametrize("unit", ["normalised", "pixels"])
@pytest.mark.parametrize("count", [4, 5, 50])
def test_many_exact_points_give_the_true_homography(unit, count):
    views = views_of_planes(300, count, 4)
    views = in_pixels(views) if unit == "pixels" else views
    H, valid = homography_dlt(views.x1, views.x2)
    assert valid.double().mean() > 0.99
    assert (distance(H, views.H)[valid] < (1e-6 if count < 10 else 1e-12)).double().mean() > 0.995
    swapped, _ = homography_dlt(views.x2, views.x1)
    product = at_unit_norm(swapped @ H)[valid]
    assert ((product - torch.eye(3).double() / 3**0.5).flatten(1).norm(dim=1) < 1e-5).double().mean() > 0.99


def test_an_image_upside_down_keeps_its_points_in_front():
    views = views_of_planes(50, 20, 18)
    H, valid = homography_dlt(views.x1, -views.x2)
    assert valid.all()
    upside_down = torch.tensor([[-1.0], [-1.0], [1.0]], dtype=torch.float64)
    torch.testing.assert_close(H, upside_down * views.H, atol=1e-11, rtol=0)


def test_kornia_and_opencv_agree_on_clean_points():
    views = in_pixels(views_of_planes(20, 30, 5))
    H, valid = homography_dlt(views.x1, views.x2)
    assert valid.all()
    expected = kornia_homography.find_homography_dlt(views.x1, views.x2)
    torch.testing.assert_close(H / H[:, 2:, 2:], expected, rtol=1e-7, atol=1e-9)
    for found, first, second in zip(H, views.x1.numpy(), views.x2.numpy()):
        opencv = torch.from_numpy(cv2.findHomography(first, second, 0)[0])
        torch.testing.assert_close(found / found[2, 2], opencv, rtol=1e-5, atol=1e-7)


def test_the_weighted_solution_is_that_of_a_singular_value_decomposition():
    views = noisy(views_of_planes(20, 15, 6), 7)
    weight = torch.rand(20, 15, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    H, valid = homography_dlt(views.x1, views.x2, weight)
    assert valid.all()
    for first, second, w, found in zip(views.x1.numpy(), views.x2.numpy(), weight.numpy(), H.numpy()):
        transforms = []
        for points in (first, second):
            centre = np.average(points, axis=0, weights=w)
            scale = np.sqrt(np.average(((points - centre) ** 2).sum(1), weights=w) / 2)
            transforms.append(np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, scale]]) / scale)
        p, q = (np.c_[points, np.ones(15)] @ T.T for points, T in zip((first, second), transforms))
        zero = np.zeros_like(p)
        rows = np.concatenate((np.hstack((-p, zero, q[:, :1] * p)), np.hstack((zero, -p, q[:, 1:2] * p))))
        expected = np.linalg.svd(rows * np.sqrt(np.r_[w, w])[:, None])[2][-1].reshape(3, 3)
        expected = np.linalg.inv(transforms[1]) @ expected @ transforms[0]
        expected *= np.sign(np.linalg.det(expected)) / np.linalg.norm(expected)
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_weights_count_like_repeated_matches():
    views = noisy(views_of_planes(10, 12, 9), 10)
    counts = torch.arange(12) % 3
    weight = counts.double().expand(10, 12)
    H, _ = homography_dlt(views.x1, views.x2, weight)
    repeated = [index for index, count in enumerate(counts) for _ in range(count)]
    expected, _ = homography_dlt(views.x1[:, repeated], views.x2[:, repeated])
    torch.testing.assert_close(H, expected, atol=1e-11, rtol=0)
    unweighted, _ = homography_dlt(views.x1, views.x2)
    assert distance(H, unweighted).min() > 1e-5


def test_matches_of_weight_zero_do_not_count_whatever_they_hold():
    views = noisy(views_of_planes(10, 12, 11), 12)
    x1, x2 = views.x1.clone(), views.x2.clone()
    weight = torch.ones(10, 12, dtype=torch.float64)
    weight[:, 9], x1[:, 10], x2[:, 11] = 0, torch.nan, torch.inf
    H, valid = homography_dlt(x1, x2, weight)
    expected, _ = homography_dlt(x1[:, :9], x2[:, :9])
    assert valid.all()
    torch.testing.assert_close(H, expected, atol=1e-11, rtol=0)


def test_gradients_are_numeric():
    views = noisy(views_of_planes(3, 7, 13), 14)
    weight = torch.rand(3, 7, generator=torch.Generator().manual_seed(15), dtype=torch.float64) + 0.5
    inputs = tuple(tensor.requires_grad_() for tensor in (views.x1, views.x2, weight))
    assert torch.autograd.gradcheck(lambda *inputs: homography_dlt(*inputs)[0], inputs, eps=1e-7, atol=1e-5)


def undetermined(x1: torch.Tensor, x2: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    ones = torch.ones_like(x1[:, 0])
    line = torch.linspace(0, 1, len(x1), dtype=x1.dtype)[:, None] * (x1[1] - x1[0]) + x1[0]
    line_but_one1, line_but_one2 = line.clone(), (2 * line + 1).clone()
    line_but_one1[-1], line_but_one2[-1] = x1[-1] + 1, x2[-1] - 1
    return {
        "three matches": (x1, x2, (torch.arange(len(x1)) < 3).to(x1)),
        "no weight": (x1, x2, torch.zeros_like(ones)),
        "negative weight": (x1, x2, -ones),
        "all equal": (x1[:1].expand_as(x1), x2[:1].expand_as(x2), ones),
        "a line in both": (line, 2 * line + 1, ones),
        "a line in both, in float32": (line.float().double(), (2 * line + 1).float().double(), ones),
        "a line in image 1": (line, x2, ones),
        "a line in image 2": (x1, line, ones),
        "a line and one point": (line_but_one1, line_but_one2, ones),
        "NaN": (torch.full_like(x1, torch.nan), x2, ones),
    }


@pytest.mark.parametrize("name", undetermined(torch.rand(9, 2), torch.rand(9, 2)))
def test_what_determines_no_homography_is_masked_and_leaves_neighbours_alone(name):
    views = views_of_planes(3, 9, 16)
    x1, x2, weight = views.x1.clone(), views.x2.clone(), torch.ones(3, 9, dtype=torch.float64)
    H, valid = homography_dlt(x1, x2, weight)
    assert valid.all()
    x1[1], x2[1], weight[1] = undetermined(x1[1], x2[1])[name]
    x1, x2 = x1.requires_grad_(), x2.requires_grad_()
    H_with, valid_with = homography_dlt(x1, x2, weight)
    assert torch.equal(H_with[[0, 2]], H[[0, 2]])
    assert valid_with.tolist() == [True, False, True]
    assert not H_with[1].any()
    H_with.sum().backward()
    assert torch.isfinite(x1.grad).all()
    assert not x1.grad[1].any()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (3, 0)])
def test_any_batch_shape_of_many_points(batch):
    views = views_of_planes(2, 6, 17)
    x1, x2 = (points.float().expand(*batch, 2, 6, 2) for points in (views.x1, views.x2))
    H, valid = homography_dlt(x1, x2)
    assert H.shape == (*batch, 2, 3, 3)
    assert valid.shape == (*batch, 2)
    assert H.dtype == torch.float32
    for i in range(2):
        alone, _ = homography_dlt(views.x1[i].float(), views.x2[i].float())
        assert torch.equal(H[..., i, :, :], alone.expand(*batch, 3, 3))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_slots_determine_nothing(count):
    H, valid = homography_dlt(torch.rand(2, count, 2), torch.rand(2, count, 2))
    assert not valid.any()
    assert not H.any()


def test_both_run_on_meta_without_a_denied_operation():
    with no_host_visits():
        H, valid = four_point(torch.empty(2, 3, 4, 2, device="meta"), torch.empty(2, 3, 4, 2, device="meta"))
        points = torch.empty(2, 2, 3, 9, 2, device="meta", requires_grad=True)
        refit, refit_valid = homography_dlt(points[0], points[1], torch.empty(2, 3, 9, device="meta"))
        refit.sum().backward()
    assert H.shape == refit.shape == (2, 3, 3, 3)
    assert valid.shape == refit_valid.shape == (2, 3)
