"""Homographies from many points against planes with a known one, NumPy, kornia and OpenCV."""

import cv2
import kornia.geometry.homography as kornia_homography
import numpy as np
import pytest
import torch

from rfp.geometry.homography import homography_dlt
from tests.geometry.planes import PlaneViews, at_unit_norm, in_pixels, views_of_planes
from tests.sync_deny_list import no_host_visits


def distance(H: torch.Tensor, H_true: torch.Tensor) -> torch.Tensor:
    """Frobenius distance of matrices of norm 1, the sign included."""
    return torch.linalg.matrix_norm(H.double() - H_true)


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


def test_values_and_gradients_run_on_meta_without_a_denied_operation():
    points = torch.empty(2, 2, 3, 9, 2, device="meta", requires_grad=True)
    with no_host_visits():
        H, valid = homography_dlt(points[0], points[1], torch.empty(2, 3, 9, device="meta"))
        H.sum().backward()
    assert H.shape == (2, 3, 3, 3)
    assert valid.shape == (2, 3)
