"""The Sampson distance of homographies and its refinement, against loops in NumPy."""

import numpy as np
import pytest
import torch

from rfp.robust.homography_refinement import (
    TransferMonomials,
    normal_equations,
    refine_homographies,
    transfer_gains,
    transfer_monomials,
    transfer_residuals,
)
from tests.geometry.planes import PlaneViews, at_unit_norm, transfer, views_of_planes
from tests.geometry.scenes import contaminate

THRESHOLD = 0.02


def monomials(x1, x2, weight=None, threshold=THRESHOLD) -> TransferMonomials:
    weight = torch.ones_like(x1[..., 0]) if weight is None else weight
    return transfer_monomials(torch.cat((x1, x2), dim=-1), weight, torch.full((len(x1),), threshold, dtype=x1.dtype))


def problem(n=6, count=40, *, sigma=0.004, dtype=torch.float64, off=0.005) -> tuple[PlaneViews, torch.Tensor]:
    """Noisy views and one candidate each, a little off."""
    views = views_of_planes(n, count, 0)
    generator = torch.Generator().manual_seed(1)
    noise = sigma * torch.randn(2, n, count, 2, generator=generator, dtype=torch.float64)
    H = at_unit_norm(views.H + off * torch.randn(n, 3, 3, generator=generator, dtype=torch.float64))
    noisy = PlaneViews((views.x1 + noise[0]).to(dtype), (views.x2 + noise[1]).to(dtype), views.H)
    return noisy, H.flatten(1)[:, None].to(dtype)


def epsilon(H: np.ndarray, match: np.ndarray) -> np.ndarray:
    a, b, w = H @ [match[0], match[1], 1]
    return np.array([w * match[2] - a, w * match[3] - b])


def numeric_jacobian(function, at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    columns = [(function(at + step * unit) - function(at - step * unit)) / (2 * step) for unit in np.eye(len(at))]
    return np.stack(columns, axis=-1)


def squared_distance(H: np.ndarray, match: np.ndarray) -> float:
    J = numeric_jacobian(lambda moved: epsilon(H, moved), match)
    e = epsilon(H, match)
    return e @ np.linalg.solve(J @ J.T, e)


def matches_of(views: PlaneViews) -> np.ndarray:
    return torch.cat((views.x1, views.x2), dim=-1).double().numpy()


# --- the distance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_gains_are_those_of_the_sampson_distance_in_numpy(dtype, tolerance):
    views, H = problem(dtype=dtype)
    weight = torch.rand(6, 40, generator=torch.Generator().manual_seed(2)).to(dtype)
    gain = transfer_gains(H.transpose(1, 2), monomials(views.x1, views.x2, weight))[:, 0]
    assert (gain > 0).double().mean() > 0.5
    assert (gain == 0).any()
    for h, matches, weights, found in zip(H.double().numpy(), matches_of(views), weight.numpy(), gain.numpy()):
        squared = np.array([squared_distance(h.reshape(3, 3), match) for match in matches]) / THRESHOLD**2
        np.testing.assert_allclose(found, weights * np.maximum(0, 1 - squared), atol=tolerance)
    unweighted = transfer_gains(H.transpose(1, 2), monomials(views.x1, views.x2, weight), weighted=False)[:, 0]
    torch.testing.assert_close(unweighted * weight, gain)


def test_of_a_translation_the_distance_is_that_in_one_image_over_root_two():
    x1 = torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shift = torch.tensor([0.5, -0.2], dtype=torch.float64)
    error = torch.zeros(1, 30, 2, dtype=torch.float64)
    error[..., 0] = torch.linspace(0, 0.04, 30)
    H = torch.eye(3, dtype=torch.float64)
    H[:2, 2] = shift
    gain = transfer_gains(H.reshape(1, 9, 1), monomials(x1, x1 + shift + error))
    torch.testing.assert_close(gain[0, 0], (1 - error[0, :, 0] ** 2 / 2 / THRESHOLD**2).clamp_min(0))


def test_swapping_images_hardly_changes_the_distance():
    """The images play the same part: where H magnifies, the distance in the second image alone would double."""
    views, _ = problem(sigma=0.001)
    magnify = torch.diag(torch.tensor([3.0, 3.0, 1.0], dtype=torch.float64))
    H, x2 = at_unit_norm(magnify @ views.H), 3 * views.x2
    forward = transfer_gains(H.flatten(1)[..., None], monomials(views.x1, x2, threshold=0.004))
    back = at_unit_norm(torch.linalg.inv(H))
    backward = transfer_gains(back.flatten(1)[..., None], monomials(x2, views.x1, threshold=0.004))
    assert (forward > 0.5).any()
    torch.testing.assert_close(forward, backward, atol=0.02, rtol=0)


def test_matches_behind_the_camera_gain_nothing():
    views, H = problem(sigma=0.0, off=0.0)
    matches = monomials(views.x1, views.x2)
    assert (transfer_gains(H.transpose(1, 2), matches) > 0.99).all()
    assert not transfer_gains(-H.transpose(1, 2), matches).any()
    assert not transfer_gains(torch.zeros_like(H).transpose(1, 2), matches).any()


def test_rounding_makes_no_inliers():
    """Where H is all but singular, float32 may tell the square of a long distance negative."""
    generator = torch.Generator().manual_seed(6)
    columns, rows = torch.randn(2, 4, 64, 3, generator=generator, dtype=torch.float64)
    H = columns[..., :, None] * rows[..., None, :] + 1e-6 * torch.randn(4, 64, 3, 3, generator=generator).double()
    H = at_unit_norm(H).flatten(2).transpose(1, 2).float()
    data, weight = torch.randn(4, 2000, 4, generator=generator), torch.ones(4, 2000)
    matches = transfer_monomials(data, weight, torch.full((4,), 0.01))
    r = transfer_residuals(H, matches)
    negative = r.u**2 * r.vv - 2 * r.u * r.v * r.uv + r.v**2 * r.uu < -30 * r.determinant
    assert (negative & (r.w > 0)).any()
    assert not transfer_gains(H, matches)[negative].any()


def test_a_threshold_below_rounding_leaves_gains_finite():
    views, H = problem(dtype=torch.float32)
    for threshold in (1e-12, 1e-30, 1e-44):
        gain = transfer_gains(H.transpose(1, 2), monomials(views.x1, views.x2, threshold=threshold))
        assert not gain.any()


# --- the step


def loss(H: torch.Tensor, matches: TransferMonomials, scale: float) -> torch.Tensor:
    """``½ Σ w ρ(d²)`` with the integral of the biweight, ρ = c²/3 (1 - (1 - d²/c²)³)."""
    r = transfer_residuals(H.transpose(1, 2), matches)
    squared = (r.u**2 * r.vv - 2 * r.u * r.v * r.uv + r.v**2 * r.uu) / (r.uu * r.vv - r.uv**2)
    rho = scale**2 / 3 * (1 - (1 - squared / scale**2).clamp_min(0) ** 3)
    return (0.5 * rho * matches.weight[:, None] * (r.w > 0)).sum(dim=-1)


def test_the_gradient_is_numeric():
    views, H = problem(off=0.02)
    weight = torch.rand(6, 40, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    matches = monomials(views.x1, views.x2, weight)
    _, gradient = normal_equations(H, matches, scale=2.0)
    numeric = torch.zeros_like(gradient)
    for entry in range(9):
        step = 1e-6 * torch.eye(9, dtype=torch.float64)[entry]
        numeric[..., entry] = (loss(H + step, matches, 2.0) - loss(H - step, matches, 2.0)) / 2e-6
    assert gradient.abs().amin(dim=-1).max() > 0.1
    assert (numeric - gradient).abs().max() < 1e-6 * gradient.abs().max()


def step_in_numpy(h: np.ndarray, matches: np.ndarray, weights: np.ndarray, scale: float) -> np.ndarray:
    """One Gauss–Newton step on the sphere of matrices of norm 1, match by match, all derivatives numeric."""
    system, gradient = np.zeros((9, 9)), np.zeros(9)
    for match, weight in zip(matches, weights):

        def covariance(h, match=match):
            J = numeric_jacobian(lambda moved: epsilon(h.reshape(3, 3), moved), match)
            return THRESHOLD**2 * J @ J.T

        along = numeric_jacobian(lambda h, match=match: epsilon(h.reshape(3, 3), match), h)
        e, C = epsilon(h.reshape(3, 3), match), covariance(h)
        z = np.linalg.solve(C, e)
        robust = weight * max(0, 1 - e @ z / scale**2) ** 2
        slope = numeric_jacobian(lambda h, z=z, covariance=covariance: np.atleast_1d(z @ covariance(h) @ z), h)[0]
        system += robust * along.T @ np.linalg.solve(C, along)
        gradient += robust * (along.T @ z - slope / 2)
    gauged = system + np.trace(system) / 9 * np.outer(h, h)
    moved = h - np.linalg.solve(gauged * (1 + 1e-6 * np.eye(9)), gradient)
    return moved / np.linalg.norm(moved)


def test_a_step_is_that_of_a_loop_in_numpy():
    views, H = problem(n=3, count=20, off=0.01)
    weight = torch.rand(3, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moved = refine_homographies(H, monomials(views.x1, views.x2, weight), scales=(2.0,))
    assert (moved - H).norm(dim=-1).min() > 1e-3
    for h, matches, weights, found in zip(H[:, 0].numpy(), matches_of(views), weight.numpy(), moved[:, 0].numpy()):
        np.testing.assert_allclose(found, step_in_numpy(h, matches, weights, 2.0), atol=1e-7)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_refinement_converges_on_exact_points(dtype, tolerance):
    views, H = problem(n=30, sigma=0.0, dtype=dtype, off=0.003)
    refined = (
        refine_homographies(H, monomials(views.x1, views.x2), scales=(3.0,) * 6)[:, 0].double().unflatten(1, (3, 3))
    )
    assert torch.linalg.matrix_norm(H[:, 0].double().unflatten(1, (3, 3)) - views.H).min() > 1e-3
    assert torch.linalg.matrix_norm(refined - views.H).max() < tolerance
    torch.testing.assert_close(torch.linalg.matrix_norm(refined), torch.ones(30, dtype=torch.float64))


def test_a_narrowing_weight_leaves_outliers_behind():
    views, H = problem(n=20, count=60, sigma=0.0, off=0.002)
    x1, x2, _ = contaminate(views.x1, views.x2, 6, inlier_ratio=0.6, noise=0.0, extent=0.7)
    refined = refine_homographies(H, monomials(x1, x2), scales=(2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.02))
    error = transfer(refined[:, 0].unflatten(-1, (3, 3)), views.x1) - views.x2
    assert error.norm(dim=-1).amax(dim=1).median() < 1e-6


def test_weights_count_like_repeated_matches():
    views, H = problem()
    counts = torch.arange(40) % 3
    repeated = [index for index, count in enumerate(counts) for _ in range(count)]
    matrix, gradient = normal_equations(H, monomials(views.x1, views.x2, counts.double().expand(6, 40)), scale=3.0)
    expected = normal_equations(H, monomials(views.x1[:, repeated], views.x2[:, repeated]), scale=3.0)
    torch.testing.assert_close(matrix, expected[0])
    torch.testing.assert_close(gradient, expected[1])


def test_without_matches_or_candidates_nothing_moves():
    views, H = problem()
    matches = monomials(views.x1, views.x2, torch.zeros(6, 40, dtype=torch.float64))
    torch.testing.assert_close(refine_homographies(H, matches, scales=(2.0, 2.0)), H, atol=1e-12, rtol=0)
    nowhere = refine_homographies(torch.zeros_like(H), monomials(views.x1, views.x2), scales=(2.0, 2.0))
    assert not nowhere.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("candidates", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [33, 100])
def test_a_step_does_not_depend_on_the_problems_beside_it(dtype, candidates, count):
    views, H = problem(n=9, count=count, dtype=dtype)
    spread = 1e-3 * torch.randn(9, candidates, 9, generator=torch.Generator().manual_seed(7)).to(dtype)
    H, matches = H + spread, monomials(views.x1, views.x2)
    refined = refine_homographies(H, matches, scales=(3.0, 2.0))
    gain = transfer_gains(H.transpose(1, 2), matches)
    for i in range(9):
        alone = monomials(views.x1[i : i + 1].clone(), views.x2[i : i + 1].clone())
        assert torch.equal(refine_homographies(H[i : i + 1].clone(), alone, scales=(3.0, 2.0)), refined[i : i + 1])
        assert torch.equal(transfer_gains(H[i : i + 1].clone().transpose(1, 2), alone), gain[i : i + 1])
