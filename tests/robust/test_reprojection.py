"""Scores and local optimisation of single-view poses: the error, its Jacobian, one step against a plain twin."""

import numpy as np
import pytest
import torch

from rfp.geometry.essential import orthonormalize
from rfp.robust.reprojection import (
    move,
    point_tables,
    refine_absolute_poses,
    reprojection_gains,
    reprojection_jacobian,
)
from tests.geometry.scenes import make_rotations, uniform, unit_vectors
from tests.geometry.single_views import views_of_depths

THRESHOLD = 0.01


def problem(dtype=torch.float64, noise=0.0, inlier_ratio=1.0, n=30, count=50):
    """Views of points of size 1, tables of them, and poses that are off by 0.01 in rotation and translation."""
    views = views_of_depths(n, count, 0, depths=(1, 3))
    generator = torch.Generator().manual_seed(1)
    x = views.x + noise * torch.randn(views.x.shape, generator=generator, dtype=torch.float64)
    outlier = torch.rand(n, count, 1, generator=generator) >= inlier_ratio
    x = torch.where(outlier, uniform(generator, *x.shape, low=-0.7, high=0.7), x)
    weight = 0.5 + torch.rand(n, count, generator=generator, dtype=torch.float64)
    threshold = torch.full((n,), THRESHOLD, dtype=dtype)
    tables = point_tables(views.X.to(dtype), x.to(dtype), weight.to(dtype), threshold)
    R = make_rotations(0.01 * unit_vectors(n, generator)) @ views.R
    t = views.t + 0.01 * unit_vectors(n, generator)
    return views, tables, R[:, None].to(dtype), t[:, None].to(dtype)


def worst_difference(R, t, views):
    return max((R[:, 0].double() - views.R).abs().max().item(), (t[:, 0].double() - views.t).abs().max().item())


def candidates(R, t):
    return torch.cat((R.flatten(-2), t), dim=-1).transpose(1, 2)


# --- scores


def test_gains_are_those_of_the_reprojection_error():
    views, tables, R, t = problem(noise=0.005)
    Y = views.X @ R[:, 0].mT + t
    squared = ((Y[..., :2] / Y[..., 2:] - tables.image.mT) / THRESHOLD).square().sum(dim=-1)
    gains = reprojection_gains(candidates(R, t), tables)
    torch.testing.assert_close(gains[:, 0], (1 - squared).clamp_min(0))
    assert 0.05 < (gains > 0).double().mean() < 0.95


def test_points_behind_the_camera_gain_nothing():
    views, _, _, _ = problem()
    behind = ((-(views.X @ views.R.mT + views.t[:, None])) - views.t[:, None]) @ views.R  # R X + t = -Y: the same image
    R, t = views.R[:, None], views.t[:, None]
    ones, threshold = torch.ones(30, 50).double(), torch.full((30,), THRESHOLD).double()
    torch.testing.assert_close(
        reprojection_gains(candidates(R, t), point_tables(views.X, views.x, ones, threshold)), ones[:, None]
    )
    assert not reprojection_gains(candidates(R, t), point_tables(behind, views.x, ones, threshold)).any()


def test_a_pose_of_zeros_gains_nothing():
    _, tables, _, _ = problem()
    assert not reprojection_gains(torch.zeros(30, 12, 3).double(), tables).any()


# --- the step


def test_the_jacobian_is_the_numeric_derivative_along_the_moves():
    _, tables, R, t = problem(noise=0.01)
    rows, depth = reprojection_jacobian(R, t, tables)
    assert depth.min() > 0.5
    for axis in range(6):
        step = 1e-6 * torch.eye(6, dtype=torch.float64)[axis].expand(30, 1, 6)
        forward, _ = reprojection_jacobian(*move(R, t, step), tables)
        backward, _ = reprojection_jacobian(*move(R, t, -step), tables)
        numeric = (forward[6] - backward[6]) / 2e-6
        assert (numeric - rows[axis]).abs().max() < 1e-6 * rows[axis].abs().max()


def numpy_step(X, x, weight, R, t, scale):
    """One damped, robustly weighted Gauss–Newton step of one pose, point by point."""
    normal, gradient = np.zeros((6, 6)), np.zeros(6)
    for X_i, x_i, w_i in zip(X, x, weight):
        q = R @ X_i
        p = q + t
        error = (p[:2] / p[2] - x_i) / THRESHOLD
        cross = np.array([[0, -q[2], q[1]], [q[2], 0, -q[0]], [-q[1], q[0], 0]])
        projection = np.array([[1, 0, -p[0] / p[2]], [0, 1, -p[1] / p[2]]]) / p[2] / THRESHOLD
        jacobian = projection @ np.hstack((-cross, np.eye(3)))
        w = w_i * max(0.0, 1 - error @ error / scale**2) ** 2
        normal += w * jacobian.T @ jacobian
        gradient += w * jacobian.T @ error
    step = -np.linalg.solve(normal + 1e-6 * np.diag(np.diag(normal)), gradient)
    half = 0.5 * step[:3]
    cross = np.array([[0, -half[2], half[1]], [half[2], 0, -half[0]], [-half[1], half[0], 0]])
    return np.linalg.solve(np.eye(3) - cross, np.eye(3) + cross) @ R, t + step[3:]  # Cayley's formula


def test_one_step_is_that_of_the_plain_twin():
    _, tables, R, t = problem(noise=0.005, inlier_ratio=0.8, n=6)
    R_moved, t_moved = refine_absolute_poses(R, t, tables, scales=(3.0,))
    for i in range(6):
        expected = numpy_step(
            *(tables.point[i, :3].T.numpy(), tables.image[i].T.numpy(), tables.weight[i].numpy()),
            *(R[i, 0].numpy(), t[i, 0].numpy(), 3.0),
        )
        np.testing.assert_allclose(R_moved[i, 0], expected[0], atol=1e-11)
        np.testing.assert_allclose(t_moved[i, 0], expected[1], atol=1e-11)
    assert (R_moved - R).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refinement_converges_on_exact_points(dtype):
    views, tables, R, t = problem(dtype)
    assert worst_difference(R, t, views) > 5e-3
    R, t = refine_absolute_poses(R, t, tables, scales=(3.0, 3.0, 2.0, 2.0, 2.0))
    assert worst_difference(R, t, views) < (1e-5 if dtype == torch.float32 else 1e-12)
    torch.testing.assert_close(R.mT @ R, torch.eye(3, dtype=dtype).expand_as(R), atol=3e-6, rtol=0)


def test_a_narrowing_weight_leaves_outliers_behind():
    views, tables, R, t = problem(inlier_ratio=0.7)
    R, t = refine_absolute_poses(R, t, tables, scales=(3.0, 2.0, 1.0, 0.5, 0.1, 0.01))
    assert worst_difference(R, t, views) < 1e-6


def test_matches_behind_the_camera_or_without_weight_take_no_part():
    views, tables, R, t = problem(noise=0.003)
    expected = refine_absolute_poses(R, t, tables, scales=(3.0, 2.0))
    Y = views.X @ views.R.mT + views.t[:, None]
    behind = ((-Y) - views.t[:, None]) @ views.R
    wrong = views.X.flip(1)
    X = torch.cat((views.X, behind, wrong), dim=1)
    image = torch.cat((tables.image.mT, tables.image.mT, tables.image.mT), dim=1)
    weight = torch.cat((tables.weight, tables.weight, torch.zeros_like(tables.weight)), dim=1)
    more = refine_absolute_poses(R, t, point_tables(X, image, weight, tables.max_error), scales=(3.0, 2.0))
    for ours, theirs in zip(more, expected):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_a_pose_without_support_stays_where_it_is():
    _, tables, R, t = problem()
    far = t + 100
    for ours, theirs in zip(refine_absolute_poses(R, far, tables, scales=(2.0,)), (R, far)):
        torch.testing.assert_close(ours, theirs, atol=1e-14, rtol=0)


def test_a_move_is_the_exponential_to_second_order():
    generator = torch.Generator().manual_seed(4)
    omega, t = 1e-3 * unit_vectors(20, generator), unit_vectors(20, generator)
    R, moved = move(torch.eye(3).double().expand(20, 3, 3), t, torch.cat((omega, 2 * t), dim=-1))
    torch.testing.assert_close(R, make_rotations(omega), atol=1e-9, rtol=0)
    torch.testing.assert_close(moved, 3 * t)
    R, _ = move(R, t, torch.cat((2000 * omega, t), dim=-1))
    torch.testing.assert_close(R.mT @ R, torch.eye(3).double().expand_as(R), atol=1e-14, rtol=0)


def test_rotations_that_lost_digits_are_rotations_again():
    R = make_rotations(unit_vectors(20, torch.Generator().manual_seed(5)))
    rounded = R.float().double()
    assert (rounded.mT @ rounded - torch.eye(3)).abs().max() > 1e-8
    again = orthonormalize(rounded)
    torch.testing.assert_close(again.mT @ again, torch.eye(3).double().expand_as(R), atol=1e-14, rtol=0)
    torch.testing.assert_close(again, R, atol=1e-7, rtol=0)
