"""The three-point solver against cameras with a known pose, and against a plain twin."""

import numpy as np
import pytest
import torch

from rfp.geometry.absolute_pose import three_point
from tests.geometry.scenes import random_rotations, uniform
from tests.geometry.single_views import SingleViews, nominal_views, seen, views_of_depths


def distance_to_truth(R, t, valid, views: SingleViews):
    """The largest difference of an entry of R, or of t beside ‖t‖, to the nearest valid slot; infinite without one."""
    rotation = (R.double() - views.R[:, None]).flatten(2).abs().amax(-1)
    translation = (t.double() - views.t[:, None]).norm(dim=-1) / (1 + views.t.norm(dim=-1)[:, None])
    return torch.where(valid, torch.maximum(rotation, translation), torch.inf).amin(dim=1)


def share_within(views: SingleViews, limit: float, dtype=torch.float64, **arguments) -> float:
    found = three_point(views.X.to(dtype), views.x.to(dtype), **arguments)
    return (distance_to_truth(*found, views) < limit).double().mean().item()


@pytest.fixture(scope="module")
def wide_views() -> SingleViews:
    return views_of_depths(10_000, 3, 0)


@pytest.fixture(scope="module")
def narrow_views() -> SingleViews:
    """A telephoto lens: a field of view of one degree."""
    return views_of_depths(10_000, 3, 1, field_of_view_deg=1, depths=(50, 60))


def test_the_true_pose_is_among_the_solutions_of_exact_points(wide_views, narrow_views):
    assert share_within(wide_views, 1e-12) >= 0.995
    assert share_within(narrow_views, 1e-12) >= 0.995
    assert share_within(wide_views, 1e-6) == share_within(narrow_views, 1e-6) == 1.0


@pytest.mark.parametrize("solver_dtype", [torch.float32, torch.float64])
def test_float32_loses_few_true_poses(wide_views, narrow_views, solver_dtype):
    for views in (wide_views, narrow_views):
        assert share_within(views, 1e-4, torch.float32, solver_dtype=solver_dtype) >= 0.993
        assert share_within(views, 1e-2, torch.float32, solver_dtype=solver_dtype) >= 0.999


def test_nominal_cases_are_solved_and_have_no_residual():
    views = nominal_views(3)
    R, t, valid = three_point(views.X, views.x)
    assert distance_to_truth(R, t, valid, views).max() < 1e-10
    assert residuals(R, t, views)[valid].max() < 1e-10  # COLMAP asks for 1e-3


def test_the_inverse_pose_is_not_a_solution(wide_views):
    inverse = SingleViews(
        wide_views.X, wide_views.x, wide_views.R.mT, -(wide_views.R.mT @ wide_views.t[..., None])[..., 0]
    )
    assert share_within(inverse, 1e-2) < 0.01


def points_in_camera(R, t, X):
    return torch.einsum("bcij,bpj->bcpi", R, X) + t[:, :, None]


def residuals(R, t, views: SingleViews):
    """The largest distance of a projected point from its image point, for each slot."""
    Y = points_in_camera(R, t, views.X)
    return (Y[..., :2] / Y[..., 2:] - views.x[:, None]).abs().amax(dim=(-1, -2))


def test_every_solution_is_a_pose_that_sees_the_points_where_they_are_and_in_front(wide_views):
    R, t, valid = three_point(wide_views.X, wide_views.x)
    assert valid.sum() > 1.5 * len(valid)
    assert points_in_camera(R, t, wide_views.X)[valid][..., 2].min() > 0
    assert residuals(R, t, wide_views)[valid].quantile(0.999) < 1e-11
    assert residuals(R, t, wide_views)[valid].max() < 1e-8
    torch.testing.assert_close((R.mT @ R)[valid], torch.eye(3).double().expand_as(R[valid]), atol=1e-13, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), valid.double(), atol=1e-13, rtol=0)
    assert not t[~valid].any()


def test_solutions_are_distinct(wide_views):
    R, t, valid = three_point(wide_views.X, wide_views.x)
    flat = torch.where(valid[..., None], torch.cat((R.flatten(2), t), dim=-1), 1000 + 100 * torch.eye(12).double()[:4])
    gap = torch.cdist(flat, flat) + 9 * torch.eye(4)
    assert (gap.amin(dim=(1, 2)) > 1e-4).double().mean() > 0.999


# --- the plain twin


def numpy_three_point(X: np.ndarray, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """One sample, by a quartic in ``y = d₂/d₃``: the difference of two laws of cosines is linear in ``d₁/d₃``."""
    rays = np.c_[x, np.ones(3)]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    c12, c13, c23 = rays[0] @ rays[1], rays[0] @ rays[2], rays[1] @ rays[2]
    a12, a13, a23 = (np.sum((X[i] - X[j]) ** 2) for i, j in ((0, 1), (0, 2), (1, 2)))
    side23 = np.array([1, -2 * c23, 1])  # y² - 2 c y + 1
    numerator = (a13 - a12) * side23 + a23 * np.array([1, 0, -1])
    denominator = 2 * a23 * np.array([c12, -c13])
    square = np.polymul(denominator, denominator)
    quartic = np.polysub(
        a23
        * np.polyadd(
            np.polymul(numerator, numerator), np.polysub(square, 2 * c13 * np.polymul(numerator, denominator))
        ),
        a13 * np.polymul(side23, square),
    )
    poses = []
    for y in np.roots(quartic):
        ratio1 = np.polyval(numerator, y.real) / np.polyval(denominator, y.real)
        if abs(y.imag) < 1e-9 and y.real > 0 and ratio1 > 0:
            d3 = np.sqrt(a23 / np.polyval(side23, y.real))
            poses.append(absolute_orientation(X, rays * (np.array([ratio1, y.real, 1]) * d3)[:, None]))
    return poses


def absolute_orientation(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation and translation that take X to Y (Kabsch)."""
    U, _, Vt = np.linalg.svd((Y - Y.mean(0)).T @ (X - X.mean(0)))
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    return R, Y.mean(0) - R @ X.mean(0)


@pytest.mark.parametrize("kind", ["true poses", "no pose behind them"])
def test_solutions_are_those_of_the_plain_twin(kind):
    if kind == "true poses":
        views = views_of_depths(400, 3, 2)
        X, x = views.X, views.x
    else:
        generator = torch.Generator().manual_seed(3)
        X = uniform(generator, 400, 3, 3, low=-1, high=1)
        x = uniform(generator, 400, 3, 2, low=-0.6, high=0.6)
    R, t, valid = three_point(X, x)
    counts = []
    for i in range(len(X)):
        expected = numpy_three_point(X[i].numpy(), x[i].numpy())
        counts.append(len(expected))
        assert valid[i].sum() == len(expected)
        for R_expected, t_expected in expected:
            gap = np.abs(R[i].numpy() - R_expected).max(axis=(1, 2)) + np.abs(t[i].numpy() - t_expected).max(axis=1)
            assert gap.min() < 1e-6 * (1 + np.abs(t_expected).max())
    assert {1, 2, 4} <= set(counts) if kind == "true poses" else {0, 1, 2} <= set(counts)


# --- symmetries


@pytest.mark.parametrize("order", [(1, 2, 0), (0, 2, 1), (2, 1, 0)])
def test_the_order_of_the_points_does_not_matter(wide_views, order):
    R, t, valid = three_point(wide_views.X[:, order], wide_views.x[:, order])
    assert share_within(wide_views, 1e-12) >= 0.995
    assert (distance_to_truth(R, t, valid, wide_views) < 1e-12).double().mean() >= 0.995
    _, _, valid_unordered = three_point(wide_views.X, wide_views.x)
    assert (valid.sum(dim=1) == valid_unordered.sum(dim=1)).double().mean() > 0.999


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e8])
def test_moving_and_scaling_the_world_moves_and_scales_the_poses(size):
    views = views_of_depths(500, 3, 4)
    generator = torch.Generator().manual_seed(5)
    turn, shift = random_rotations(500, generator), uniform(generator, 500, 3, low=-1, high=1)
    R, t, valid = three_point(size * (views.X @ turn.mT + shift[:, None]), views.x)
    R_back = R @ turn[:, None]
    t_back = t / size + torch.einsum("bcij,bj->bci", R, shift)
    assert (distance_to_truth(R_back, t_back, valid, views) < 1e-10).double().mean() >= 0.995


@pytest.mark.parametrize("height", [0.5, 1.0, 5.0])
def test_an_equilateral_triangle_seen_from_above_its_centre_is_solved(height):
    """Its two conics are degenerate themselves."""
    angle = torch.arange(3, dtype=torch.float64) * (2 * torch.pi / 3)
    X = torch.stack((angle.cos(), angle.sin(), torch.zeros(3)), dim=-1)[None]
    views = seen(X, torch.eye(3).double()[None], torch.tensor([[0.0, 0.0, height]]).double())
    assert share_within(views, 1e-6) == 1.0


def test_three_points_whose_plane_holds_the_camera_are_solved():
    """The image points lie on a line, the points of space do not."""
    views = views_of_depths(200, 3, 6)
    flat = views.x.clone()
    flat[..., 1] = 0.3 * flat[..., 0] + 0.1
    depth = (views.X @ views.R.mT + views.t[:, None])[..., 2:]
    X = (torch.cat((flat, torch.ones_like(depth)), dim=-1) * depth - views.t[:, None]) @ views.R
    assert share_within(SingleViews(X, flat, views.R, views.t), 1e-6) >= 0.99


# --- failures and batches


def degenerate_samples(X: torch.Tensor, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    line = torch.tensor([-0.4, 0.1, 0.7], dtype=torch.float64)
    on_a_line = torch.stack((line, 0.3 * line + 0.1, 4 + line), dim=-1)
    repeated_point, repeated_ray = X.clone(), x.clone()
    repeated_point[2], repeated_ray[2] = X[0], x[0]
    return {
        "zeros": (torch.zeros(3, 3).double(), torch.zeros(3, 2).double()),
        "one point thrice": (X[:1].expand(3, 3), x[:1].expand(3, 2)),
        "a match repeated": (repeated_point, repeated_ray),
        "a point repeated": (repeated_point, x),
        "a ray repeated": (X, repeated_ray),
        "one ray": (X, x[:1].expand(3, 2)),
        "a line in space": (on_a_line, on_a_line[:, :2] / on_a_line[:, 2:]),
        "NaN in space": (torch.full((3, 3), torch.nan).double(), x),
        "infinity in the image": (X, torch.full((3, 2), torch.inf).double()),
        "numbers whose squares overflow": (X * 1e200, x),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", degenerate_samples(torch.zeros(3, 3).double(), torch.zeros(3, 2).double()))
def test_a_degenerate_sample_is_masked_and_leaves_its_neighbours_alone(name, dtype):
    for seed in range(5):
        views = views_of_depths(9, 3, seed)
        X, x = views.X.to(dtype), views.x.to(dtype)
        found = three_point(X, x, solver_dtype=dtype)
        X[4], x[4] = degenerate_samples(views.X[4], views.x[4])[name]
        found_with = three_point(X, x, solver_dtype=dtype)
        others = [0, 1, 2, 3, 5, 6, 7, 8]
        for before, after in zip(found, found_with):
            assert torch.equal(before[others], after[others])
            assert torch.isfinite(after).all()
            assert not after[4].any()
        assert found[2][others].any(dim=1).all()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (37,), (0,), (3, 0)])
def test_any_batch_shape_is_the_stack_of_single_calls(batch):
    generator = torch.Generator().manual_seed(0)
    X, x = torch.rand(*batch, 3, 3, generator=generator), torch.rand(*batch, 3, 2, generator=generator) - 0.5
    R, t, valid = three_point(X, x)
    assert R.shape == (*batch, 4, 3, 3)
    assert t.shape == (*batch, 4, 3)
    assert valid.shape == (*batch, 4)
    assert R.dtype == t.dtype == torch.float32
    for i, (X_alone, x_alone) in enumerate(zip(X.reshape(-1, 3, 3), x.reshape(-1, 3, 2))):
        for alone, there in zip(
            three_point(X_alone, x_alone), (R.view(-1, 4, 3, 3), t.view(-1, 4, 3), valid.view(-1, 4))
        ):
            assert torch.equal(alone, there[i])
