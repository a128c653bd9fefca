"""Fundamental matrices from many points, against scenes with a known one and against NumPy."""

import numpy as np
import pytest
import torch

from rfp.geometry.eight_point import eight_point, nearest_of_rank_two
from rfp.geometry.epipolar import sampson_distance
from tests.geometry.scenes import contaminate, homogeneous, views_of_a_box, views_of_a_plane
from tests.sync_deny_list import no_host_visits


def distance(F: torch.Tensor, F_true: torch.Tensor) -> torch.Tensor:
    """Frobenius distance at norm 1, least over the sign."""
    return torch.minimum(torch.linalg.matrix_norm(F - F_true), torch.linalg.matrix_norm(F + F_true))


def noisy_points(n: int, count: int, seed: int, noise: float = 1 / 500) -> tuple[torch.Tensor, torch.Tensor]:
    views = views_of_a_box(n, count, seed)
    return contaminate(views.x1, views.x2, seed, inlier_ratio=1.0, noise=noise, extent=1.0)[:2]


@pytest.mark.parametrize(("count", "limit"), [(8, 1e-6), (12, 1e-9), (100, 1e-11)])
def test_exact_points_give_the_true_matrix(count, limit):
    views = views_of_a_box(500, count, 0)
    F, valid = eight_point(views.x1, views.x2)
    assert valid.double().mean() > 0.99
    assert (distance(F, views.E)[valid] < limit).double().mean() >= 0.995
    assert distance(F.mT, views.E).median() > 1e-2


def test_noise_moves_the_matrix_by_a_few_times_itself():
    views = views_of_a_box(200, 200, 1)
    x1, x2 = noisy_points(200, 200, 1, noise=1e-3)
    F, valid = eight_point(x1, x2)
    assert valid.all()
    error = sampson_distance(views.x1, views.x2, F).mean(dim=1).sqrt()
    assert error.median() < 0.4e-3
    assert error.median() > 0.05e-3


def test_the_result_has_rank_two_and_norm_one_and_the_dtype_of_the_points():
    x1, x2 = noisy_points(100, 20, 2)
    F, _ = eight_point(x1, x2)
    values = torch.linalg.svdvals(F)
    assert (values[:, 2] < 1e-14).all()
    assert (values[:, 1] > 1e-4).all()
    torch.testing.assert_close(torch.linalg.matrix_norm(F), torch.ones(100).double())
    single, _ = eight_point(x1.float(), x2.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), F, atol=1e-3, rtol=0)


def numpy_eight_point(x1: np.ndarray, x2: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Hartley's algorithm for one problem, with two singular value decompositions."""
    similarities = []
    for x in (x1, x2):
        centre = np.average(x, axis=0, weights=weight)
        scale = np.sqrt(2 / np.average(((x - centre) ** 2).sum(axis=1), weights=weight))
        similarities.append(np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1]]))
    T1, T2 = similarities
    rows = [np.sqrt(w) * np.kron(T2 @ [*b, 1], T1 @ [*a, 1]) for a, b, w in zip(x1, x2, weight)]
    U, s, V = np.linalg.svd(np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3))
    F = T2.T @ (U @ np.diag([s[0], s[1], 0]) @ V) @ T1
    return F / np.linalg.norm(F)


def test_the_result_is_that_of_numpy():
    x1, x2 = noisy_points(50, 30, 3)
    weight = torch.rand(50, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    F, _ = eight_point(x1, x2, weight)
    expected = np.stack([numpy_eight_point(*problem) for problem in zip(x1.numpy(), x2.numpy(), weight.numpy())])
    assert distance(F, torch.from_numpy(expected)).max() < 1e-9


def test_rank_two_is_enforced_as_by_the_singular_value_decomposition():
    F = torch.randn(300, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    U, s, V = torch.linalg.svd(F)
    expected = (U[..., :2] * s[:, None, :2]) @ V[:, :2]
    clear = s[:, 2] < 0.8 * s[:, 1]
    assert clear.sum() > 200
    torch.testing.assert_close(nearest_of_rank_two(F)[clear], expected[clear], atol=1e-10, rtol=0)
    assert torch.linalg.svdvals(nearest_of_rank_two(F))[:, 2].max() < 1e-13


def test_a_singular_matrix_is_the_nearest_to_itself():
    E = views_of_a_box(100, 1, 4).E
    torch.testing.assert_close(nearest_of_rank_two(E), E, atol=1e-14, rtol=0)


# --- laws


def test_the_unit_of_the_points_and_their_origin_do_not_matter():
    x1, x2 = noisy_points(50, 25, 5)
    F, _ = eight_point(x1, x2)
    T1, T2 = torch.eye(3).double(), torch.eye(3).double()
    T1[0, 0] = T1[1, 1] = 700
    T2[0, 0] = T2[1, 1] = 0.02
    T1[:2, 2], T2[:2, 2] = torch.tensor([320.0, 240.0]), torch.tensor([-3.0, 1.0])
    moved, _ = eight_point((homogeneous(x1) @ T1.T)[..., :2], (homogeneous(x2) @ T2.T)[..., :2])
    back = T2.T @ moved @ T1
    assert distance(back / torch.linalg.matrix_norm(back)[:, None, None], F).max() < 1e-9


def test_swapping_images_transposes_F():
    x1, x2 = noisy_points(50, 25, 6)
    assert distance(eight_point(x2, x1)[0].mT, eight_point(x1, x2)[0]).max() < 1e-10


def test_weights_count_like_repeated_matches():
    x1, x2 = noisy_points(20, 25, 7)
    count = torch.randint(0, 4, (25,), generator=torch.Generator().manual_seed(2))
    repeated = [x.repeat_interleave(count, dim=1) for x in (x1, x2)]
    weighted, _ = eight_point(x1, x2, count.double().expand(20, 25))
    assert distance(weighted, eight_point(*repeated)[0]).max() < 1e-10
    assert distance(weighted, eight_point(x1, x2)[0]).max() > 1e-4


def test_matches_without_weight_and_those_that_are_not_finite_are_no_matches():
    x1, x2 = noisy_points(20, 25, 8)
    F, _ = eight_point(x1[:, :20], x2[:, :20])
    weight = torch.ones(20, 25).double()
    weight[:, 20:22] = 0
    x1[:, 20], x1[:, 22], x2[:, 23], weight[:, 24] = torch.nan, torch.nan, torch.inf, torch.nan
    with_more, valid = eight_point(x1, x2, weight)
    assert valid.all()
    assert distance(with_more, F).max() < 1e-10


def test_gradients_are_numeric():
    x1, x2 = noisy_points(2, 12, 9, noise=0.02)
    weight = torch.rand(2, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.5
    inputs = [tensor.clone().requires_grad_() for tensor in (x1, x2, weight)]
    assert torch.autograd.gradcheck(lambda *arguments: eight_point(*arguments)[0], inputs, atol=1e-4)


def degenerate_problems() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    views, plane = views_of_a_box(1, 20, 10), views_of_a_plane(1, 20, 10, slope=0.3)
    turned = homogeneous(views.x1[0]) @ views.R[0].T
    seven = [x[0, torch.arange(20) % 7] for x in (views.x1, views.x2)]
    return {
        "zeros": (torch.zeros(20, 2).double(), torch.zeros(20, 2).double()),
        "one point": (views.x1[0, :1].expand(20, 2), views.x2[0, :1].expand(20, 2)),
        "seven matches repeated": (seven[0], seven[1]),
        "a plane": (plane.x1[0], plane.x2[0]),
        "pure rotation": (views.x1[0], turned[:, :2] / turned[:, 2:]),
        "NaN": (torch.full((20, 2), torch.nan).double(), views.x2[0]),
        "seven that are finite": (torch.where(torch.arange(20)[:, None] < 7, views.x1[0], torch.inf), views.x2[0]),
    }


@pytest.mark.parametrize("name", degenerate_problems())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_matches_are_masked_and_leave_their_neighbours_alone(name, dtype):
    x1, x2 = (x.to(dtype) for x in noisy_points(5, 20, 11))
    F, valid = eight_point(x1, x2)
    assert valid.all()
    x1[2], x2[2] = degenerate_problems()[name]
    F_with, valid_with = eight_point(x1, x2)
    others = [0, 1, 3, 4]
    assert torch.equal(F[others], F_with[others])
    assert valid_with.tolist() == [True, True, False, True, True]
    assert not F_with[2].any()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (3, 0)])
def test_any_batch_shape_is_the_stack_of_single_calls(batch):
    points = torch.rand(*batch, 2, 15, 2, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(*batch, 15, generator=torch.Generator().manual_seed(1))
    F, valid = eight_point(points[..., 0, :, :], points[..., 1, :, :], weight)
    assert F.shape == (*batch, 3, 3)
    assert valid.shape == batch
    for problem, weights, F_there in zip(points.reshape(-1, 2, 15, 2), weight.reshape(-1, 15), F.reshape(-1, 3, 3)):
        assert torch.equal(eight_point(problem[0], problem[1], weights)[0], F_there)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_fewer_than_eight_matches_have_no_matrix(count):
    F, valid = eight_point(torch.rand(3, count, 2), torch.rand(3, count, 2))
    assert not valid.any()
    assert not F.any()


def test_it_stays_on_the_device():
    points = torch.empty(2, 3, 20, 2, device="meta")
    with no_host_visits():
        F, valid = eight_point(points, points, torch.empty(2, 3, 20, device="meta"))
    assert F.shape == (2, 3, 3, 3)
    assert valid.device.type == "meta"
