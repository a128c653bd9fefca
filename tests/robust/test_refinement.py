"""Local optimisation: the Jacobian and convergence."""

import numpy as np
import pytest
import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import essential_from_pose, relative_pose_error
from rfp.robust.refinement import refine_poses, retract, sampson_jacobian, tangent_basis
from rfp.robust.scoring import match_monomials
from tests.geometry.scenes import contaminate, make_rotations, unit_vectors, views_of_a_box

THRESHOLD = 0.02


def problem(dtype=torch.float64, noise=0.0, inlier_ratio=1.0, n=30):
    views = views_of_a_box(n, 50, 0)
    x1, x2, _ = contaminate(views.x1, views.x2, 1, inlier_ratio=inlier_ratio, noise=noise, extent=0.4)
    weight = torch.ones(n, 50, dtype=dtype)
    matches = match_monomials(x1.to(dtype), x2.to(dtype), weight, torch.full((n,), THRESHOLD, dtype=dtype))
    generator = torch.Generator().manual_seed(2)
    R = make_rotations(0.01 * unit_vectors(n, generator)) @ views.R
    t = torch.nn.functional.normalize(views.t + 0.01 * unit_vectors(n, generator), dim=-1)
    return views, matches, R[:, None].to(dtype), t[:, None].to(dtype)


def worst_error(R, t, views):
    errors = relative_pose_error(R[:, 0].double(), t[:, 0].double(), views.R, views.t, fold_translation=False)
    return torch.maximum(*errors).max().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refinement_converges_on_exact_points(dtype):
    views, matches, R, t = problem(dtype)
    assert worst_error(R, t, views) > 5e-3
    R, t = refine_poses(R, t, matches, scales=(2.0,) * 5)
    assert worst_error(R, t, views) < (1e-4 if dtype == torch.float32 else 1e-8)


def test_a_narrowing_weight_leaves_outliers_behind():
    views, matches, R, t = problem(inlier_ratio=0.7)
    R, t = refine_poses(R, t, matches, scales=(1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01))
    errors = relative_pose_error(R[:, 0], t[:, 0], views.R, views.t, fold_translation=False)
    assert torch.maximum(*errors).median() < 1e-6


def test_the_result_is_a_rotation_and_a_unit_vector():
    _, matches, R, t = problem(torch.float32, noise=0.01)
    R, t = refine_poses(R, t, matches, scales=(2.0,) * 5)
    torch.testing.assert_close(R.mT @ R, torch.eye(3).expand_as(R), atol=3e-6, rtol=0)
    torch.testing.assert_close(t.norm(dim=-1), torch.ones(30, 1))


def test_the_error_is_the_signed_sampson_distance_in_units_of_the_threshold():
    views, matches, R, t = problem()
    error, _ = sampson_jacobian(R, t, matches)
    expected = sampson_distance(views.x1, views.x2, essential_from_pose(R[:, 0], t[:, 0])).sqrt() / THRESHOLD
    torch.testing.assert_close(error[:, 0].abs(), expected)
    assert (error > 0).any()
    assert (error < 0).any()


def test_the_jacobian_is_the_numeric_derivative_along_the_retraction():
    _, matches, R, t = problem(noise=0.01)
    error, jacobian = sampson_jacobian(R, t, matches)
    assert error.abs().max() > 0.1
    for axis in range(5):
        step = 1e-6 * torch.eye(5, dtype=torch.float64)[axis].expand(30, 1, 5)
        forward, _ = sampson_jacobian(*retract(R, t, step), matches)
        backward, _ = sampson_jacobian(*retract(R, t, -step), matches)
        numeric = (forward - backward) / 2e-6
        scale = jacobian[:, :, axis].abs().amax()
        assert (numeric - jacobian[:, :, axis]).abs().max() < 1e-6 * scale


def test_the_retraction_is_the_exponential_to_second_order():
    generator = torch.Generator().manual_seed(4)
    omega = 1e-3 * unit_vectors(20, generator)
    t = unit_vectors(20, generator)
    step = torch.cat((omega, torch.zeros(20, 2)), dim=-1)
    R, same_t = retract(torch.eye(3).double().expand(20, 3, 3), t, step)
    torch.testing.assert_close(R, make_rotations(omega), atol=1e-9, rtol=0)
    torch.testing.assert_close(same_t, t)


def test_the_tangent_basis_is_orthonormal_everywhere():
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 1.0, -0.0]]).double()
    t = torch.cat((unit_vectors(100, torch.Generator().manual_seed(5)), poles))
    basis = torch.stack((*tangent_basis(t), t), dim=-1)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(3).double().expand_as(basis), atol=1e-12, rtol=0)


def numpy_step(R, t, x1, x2, counts, scale):
    """One damped Gauss–Newton step in plain NumPy: derivatives by differences, the system by LAPACK, axes by hand."""

    def skew(v):
        return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])

    ray1, ray2 = (np.column_stack((x, np.ones(len(x)))) for x in (x1, x2))
    axes = [axis.numpy() for axis in tangent_basis(torch.from_numpy(t))]

    def moved(step):
        angle = np.linalg.norm(step[:3])
        K = skew(step[:3] / angle) if angle > 0 else np.zeros((3, 3))
        half = 2 * np.arctan(angle / 2)  # the rotation of the quaternion (1, ω/2)
        turn = np.eye(3) + np.sin(half) * K + (1 - np.cos(half)) * K @ K
        direction = t + step[3] * axes[0] + step[4] * axes[1]
        return turn @ R, direction / np.linalg.norm(direction)

    def errors(step):
        turned, direction = moved(step)
        E = skew(direction) @ turned
        line2, line1 = ray1 @ E.T, ray2 @ E
        denominator = (line2[:, :2] ** 2).sum(1) + (line1[:, :2] ** 2).sum(1)
        return (ray2 * line2).sum(1) / np.sqrt(denominator) / THRESHOLD

    e, width = errors(np.zeros(5)), 1e-6
    J = np.stack([(errors(width * d) - errors(-width * d)) / (2 * width) for d in np.eye(5)], axis=1)
    weight = counts * np.maximum(0, 1 - e**2 / scale**2) ** 2
    normal = J.T @ (weight[:, None] * J)
    return moved(-np.linalg.solve(normal + 1e-6 * np.diag(np.diag(normal)), J.T @ (weight * e)))


def test_a_step_is_that_of_a_plain_twin():
    views = views_of_a_box(5, 50, 0)
    x1, x2, _ = contaminate(views.x1, views.x2, 1, inlier_ratio=0.8, noise=0.005, extent=0.4)
    _, _, R, t = problem(n=5)
    counts = 5 * torch.rand(5, 50, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    matches = match_monomials(x1, x2, counts, torch.full((5,), THRESHOLD).double())
    stepped_R, stepped_t = refine_poses(R, t, matches, scales=(2.0,))
    for k in range(5):
        given = (tensor[k].numpy() for tensor in (R[:, 0], t[:, 0], x1, x2, counts))
        twin_R, twin_t = numpy_step(*given, 2.0)
        np.testing.assert_allclose(stepped_R[k, 0].numpy(), twin_R, atol=1e-6)
        np.testing.assert_allclose(stepped_t[k, 0].numpy(), twin_t, atol=1e-6)
