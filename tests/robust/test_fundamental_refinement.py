"""Local optimisation of fundamental matrices: the Jacobian, the manifold, a plain twin of a step, and convergence."""

import dataclasses

import numpy as np
import pytest
import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.robust.fundamental_refinement import cofactors, refine_fundamental, retract, sampson_jacobian
from rfp.robust.scoring import match_monomials
from tests.geometry.scenes import contaminate, homogeneous, views_of_a_box

THRESHOLD = 0.02


def problem(dtype=torch.float64, noise=0.0, inlier_ratio=1.0, n=30, off=0.01):
    """Scenes, their tables, and fundamental matrices of rank 2 at a distance of ``off`` from the true ones."""
    views = views_of_a_box(n, 60, 0)
    x1, x2, _ = contaminate(views.x1, views.x2, 1, inlier_ratio=inlier_ratio, noise=noise, extent=0.4)
    weight = torch.ones(n, 60, dtype=dtype)
    matches = match_monomials(x1.to(dtype), x2.to(dtype), weight, torch.full((n,), THRESHOLD, dtype=dtype))
    step = torch.randn(n, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    F = retract(views.E.flatten(1), off * step / step.norm(dim=1, keepdim=True))
    return views, x1, x2, matches, F[:, None].to(dtype)


def distance(F, F_true):
    """Least over the sign."""
    F, F_true = F.double().flatten(1), F_true.flatten(1)
    return torch.minimum((F - F_true).norm(dim=1), (F + F_true).norm(dim=1))


# --- the manifold


def test_cofactors_are_the_gradient_of_the_determinant():
    F = torch.randn(20, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    torch.linalg.det(F.unflatten(-1, (3, 3))).sum().backward()
    torch.testing.assert_close(cofactors(F.detach()), F.grad)


@pytest.mark.parametrize("size", [1e-3, 0.1, 0.5])
def test_the_retraction_has_rank_two_and_norm_one(size):
    E = views_of_a_box(200, 1, 0).E.flatten(1)
    step = torch.randn(200, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    F = retract(E, size * step / step.norm(dim=1, keepdim=True))
    torch.testing.assert_close(F.norm(dim=1), torch.ones(200).double())
    limit = 1e-15 if size < 0.01 else 1e-3 * size**2
    assert torch.linalg.det(F.unflatten(1, (3, 3))).abs().median() < limit


def test_the_retraction_along_the_tangent_space_is_the_step_to_second_order():
    E = views_of_a_box(100, 1, 2).E.flatten(1)
    assert (retract(E, torch.zeros_like(E)) - E).abs().max() < 1e-15
    step = torch.randn(100, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for normal in (E, torch.nn.functional.normalize(cofactors(E), dim=1)):
        step = step - (step * normal).sum(dim=1, keepdim=True) * normal
    for size in (1e-2, 1e-4):
        remainder = (retract(E, size * step) - E - size * step).norm(dim=1)
        assert (remainder / size**2).median() < 10


# --- a step


def test_the_error_is_the_signed_sampson_distance_in_units_of_the_threshold():
    _, x1, x2, matches, F = problem(noise=0.01)
    error, _ = sampson_jacobian(F, matches)
    expected = sampson_distance(x1, x2, F[:, 0].unflatten(-1, (3, 3))).sqrt() / THRESHOLD
    torch.testing.assert_close(error[:, 0].abs(), expected)
    assert (error > 0).any()
    assert (error < 0).any()


def test_the_jacobian_is_the_numeric_derivative():
    *_, matches, F = problem(noise=0.01)
    error, jacobian = sampson_jacobian(F, matches)
    assert error.abs().max() > 0.1
    assert jacobian.shape == (30, 1, 9, 60)
    for entry in range(9):
        step = 1e-6 * torch.eye(9, dtype=torch.float64)[entry]
        numeric = (sampson_jacobian(F + step, matches)[0] - sampson_jacobian(F - step, matches)[0]) / 2e-6
        assert (numeric - jacobian[:, :, entry]).abs().max() < 1e-6 * jacobian[:, :, entry].abs().amax()


def numpy_step(F: np.ndarray, x1: np.ndarray, x2: np.ndarray, counts: np.ndarray, scale: float) -> np.ndarray:
    """One step for one problem: a numeric Jacobian along a basis of the tangent space, and a dense solver."""

    def errors(F: np.ndarray) -> np.ndarray:
        line2, line1 = x1 @ F.T, x2 @ F
        length = np.sqrt((line2[:, :2] ** 2).sum(axis=1) + (line1[:, :2] ** 2).sum(axis=1))
        return (x2 * line2).sum(axis=1) / length / THRESHOLD

    U, s, V = np.linalg.svd(F)
    normals = np.stack((F.ravel(), np.outer(U[:, 2], V[2]).ravel()))  # F, and the direction of its cofactors
    basis = np.linalg.svd(normals)[2][2:]
    steps = 1e-6 * basis.reshape(7, 3, 3)
    J = np.stack([(errors(F + step) - errors(F - step)) / 2e-6 for step in steps])
    e = errors(F)
    weight = counts * np.maximum(0, 1 - e**2 / scale**2) ** 2
    moved = F - (np.linalg.solve(J * weight @ J.T, J * weight @ e) @ basis).reshape(3, 3)
    U, s, V = np.linalg.svd(moved)
    moved = U @ np.diag([s[0], s[1], 0]) @ V
    return moved / np.linalg.norm(moved)


def test_a_step_is_that_of_numpy():
    _, x1, x2, matches, F = problem(noise=0.003)
    counts = 5 * torch.rand(x1.shape[:2], generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    matches = dataclasses.replace(matches, weight=counts)
    stepped = refine_fundamental(F, matches, scales=(2.0,))[:, 0]
    arguments = (F[:, 0].unflatten(-1, (3, 3)), homogeneous(x1), homogeneous(x2), counts)
    expected = [numpy_step(*row, scale=2.0) for row in zip(*(tensor.numpy() for tensor in arguments))]
    gap = distance(stepped, torch.from_numpy(np.stack(expected)))
    moved = distance(stepped, F[:, 0])
    assert moved.median() > 3e-3
    assert (gap < 2e-2 * moved).all()  # the damping, and the retraction to second order
    assert gap.median() < 3e-3 * moved.median()


# --- convergence


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_refinement_converges_on_exact_points(dtype):
    views, _, _, matches, F = problem(dtype)
    assert distance(F[:, 0], views.E).min() > 5e-3
    F = refine_fundamental(F, matches, scales=(3.0,) * 7)
    assert F.dtype == dtype
    errors = distance(F[:, 0], views.E)
    assert errors.median() < (1e-4 if dtype == torch.float32 else 1e-10)
    assert (errors < (1e-2 if dtype == torch.float32 else 1e-6)).all()


def test_a_narrowing_weight_leaves_outliers_behind():
    views, _, _, matches, F = problem(inlier_ratio=0.7, off=0.005)
    F = refine_fundamental(F, matches, scales=(1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01))
    assert distance(F[:, 0], views.E).median() < 1e-6


def test_refinement_lowers_the_error_of_noisy_points():
    views, _, _, matches, F = problem(noise=0.004, off=0.05)
    refined = refine_fundamental(F, matches, scales=(4.0,) * 8)

    def error(F):
        return sampson_distance(views.x1, views.x2, F[:, 0].unflatten(-1, (3, 3))).mean(dim=1).sqrt()

    assert error(refined).median() < 0.3 * error(F).median()
    assert error(refined).median() < 0.002


def test_nothing_to_refine_stays_finite():
    *_, matches, F = problem(torch.float32)
    refined = refine_fundamental(torch.zeros_like(F), matches, scales=(2.0,) * 3)
    assert torch.isfinite(refined).all()
    nothing = match_monomials(torch.zeros(30, 9, 2), torch.zeros(30, 9, 2), torch.zeros(30, 9), torch.ones(30))
    torch.testing.assert_close(refine_fundamental(F, nothing, scales=(2.0,) * 3), F, atol=1e-6, rtol=0)
