"""The seven-point solver against scenes with a known fundamental matrix, and against NumPy."""

import numpy as np
import pytest
import torch

from rfp.geometry.householder import null_space
from rfp.geometry.seven_point import seven_point
from tests.geometry.scenes import TwoViews, homogeneous, views_from_depths, views_of_a_box, views_of_a_plane


def distance_to_truth(F, valid, F_true):
    """Frobenius distance at norm 1 of the nearest valid candidate, least over the sign; infinite without one."""
    F = F.double()
    plus = torch.linalg.matrix_norm(F - F_true[:, None])
    minus = torch.linalg.matrix_norm(F + F_true[:, None])
    return torch.where(valid, torch.minimum(plus, minus), torch.inf).amin(dim=1)


def share_within(views: TwoViews, limit: float, dtype=torch.float64, solver_dtype=torch.float64) -> float:
    F, valid = seven_point(views.x1.to(dtype), views.x2.to(dtype), solver_dtype=solver_dtype)
    return (distance_to_truth(F, valid, views.E) < limit).double().mean().item()


@pytest.fixture(scope="module")
def general_views() -> TwoViews:
    """Ten thousand samples, any rotation, depths over two decades."""
    views = views_from_depths(21200, 7, 0, field_of_view_deg=75, depths=(0.1, 10))
    return TwoViews(views.x1[:10000], views.x2[:10000], views.R[:10000], views.t[:10000])


@pytest.fixture(scope="module")
def pixel_views() -> tuple[TwoViews, torch.Tensor, torch.Tensor]:
    """Images whose points are in other units and F no essential matrix, and the similarities of the two images."""
    views = views_of_a_box(500, 7, 1)
    K1, K2 = torch.eye(3).double(), torch.eye(3).double()
    K1[0, 0], K1[1, 1], K1[0, 2], K2[0, 0], K2[1, 1], K2[1, 2] = 1.3, 0.8, 0.4, 0.7, 1.1, -0.5
    return views, K1, K2


# --- the truth


def test_the_true_matrix_is_among_the_solutions_of_exact_points(general_views):
    assert len(general_views.x1) == 10000
    assert share_within(general_views, 1e-6) == 1.0
    assert share_within(general_views, 1e-8) >= 0.9999
    assert share_within(general_views, 1e-12) >= 0.98


def test_float32_points_and_a_float32_solver_lose_few_true_matrices(general_views):
    assert share_within(general_views, 1e-4, torch.float32) >= 0.975
    assert share_within(general_views, 1e-4, torch.float32, torch.float32) >= 0.94


def test_a_box_in_front_of_the_cameras_is_solved_exactly():
    assert share_within(views_of_a_box(2000, 7, 2), 1e-8) == 1.0


def test_the_true_matrix_of_uncalibrated_images_is_found(pixel_views):
    views, K1, K2 = pixel_views
    x1, x2 = (homogeneous(x) @ K.T for x, K in ((views.x1, K1), (views.x2, K2)))
    F_true = torch.linalg.inv(K2).T @ views.E @ torch.linalg.inv(K1)
    F_true = F_true / torch.linalg.matrix_norm(F_true)[:, None, None]
    F, valid = seven_point(x1[..., :2], x2[..., :2])
    assert distance_to_truth(F, valid, F_true).max() < 1e-8


def test_the_transposed_matrix_is_not_a_solution(general_views):
    F, valid = seven_point(general_views.x1[:2000], general_views.x2[:2000])
    assert (distance_to_truth(F, valid, general_views.E[:2000].mT) < 1e-3).double().mean() < 0.01


def test_swapping_images_transposes_F():
    views = views_of_a_box(500, 7, 3)
    F, valid = seven_point(views.x1, views.x2)
    swapped, swapped_valid = seven_point(views.x2, views.x1)
    for slot in range(3):
        there = valid[:, slot]
        assert there.sum() > 100
        assert distance_to_truth(swapped.mT, swapped_valid, F[:, slot])[there].max() < 1e-8


def test_every_solution_is_singular_and_passes_through_the_seven_matches(general_views):
    F, valid = seven_point(general_views.x1, general_views.x2)
    products = torch.einsum("bpi,bcij,bpj->bcp", homogeneous(general_views.x2), F, homogeneous(general_views.x1))
    assert products[valid].abs().max() < 1e-12
    assert torch.linalg.det(F)[valid].abs().max() < 1e-12
    torch.testing.assert_close(torch.linalg.matrix_norm(F), valid.double(), atol=1e-12, rtol=0)


# --- a plain twin


def numpy_seven_point(x1: np.ndarray, x2: np.ndarray) -> list[np.ndarray]:
    """One sample: null space by SVD, ``det(a F1 + (1 - a) F2)`` through four of its values, roots as eigenvalues."""
    rows = [np.kron([*second, 1], [*first, 1]) for first, second in zip(x1, x2)]
    F1, F2 = np.linalg.svd(np.array(rows))[2][-2:].reshape(2, 3, 3)
    places = np.array([-1.0, 0.0, 1.0, 2.0])
    cubic = np.polyfit(places, [np.linalg.det(a * F1 + (1 - a) * F2) for a in places], 3)
    real = [root.real for root in np.roots(cubic) if abs(root.imag) < 1e-7]
    candidates = [a * F1 + (1 - a) * F2 for a in real]
    return [F / np.linalg.norm(F) for F in candidates]


def test_the_solutions_are_those_of_numpy():
    generator = torch.Generator().manual_seed(4)
    x1, x2 = torch.randn(2, 300, 7, 2, generator=generator, dtype=torch.float64)
    F, valid = seven_point(x1, x2)
    found = 0
    for sample in range(300):
        expected = numpy_seven_point(x1[sample].numpy(), x2[sample].numpy())
        assert valid[sample].sum() == len(expected)
        for truth in expected:
            gap = distance_to_truth(F[sample, None], valid[sample, None], torch.from_numpy(truth)[None])
            assert gap.item() < 1e-6
            found += 1
    assert 500 < found < 800


@pytest.mark.parametrize("turn_deg", [0, 45, 90, 135, 1e-7, 90 + 1e-7, 20, 67.5])
def test_a_root_is_found_wherever_the_null_space_puts_it(monkeypatch, turn_deg):
    """At 0° the truth is the first matrix of the basis, at 90° the second: the root at infinity."""
    views = views_of_a_box(300, 7, 5)
    truth = views.E.flatten(1).T  # (9, T)

    def turned_null_space(system):
        basis, independent = null_space(system)
        a, b = (basis * truth).sum(dim=1)  # F = a F1 + b F2
        other = a * basis[1] - b * basis[0]
        angle = torch.tensor(turn_deg, dtype=torch.float64).deg2rad()
        cosine, sine = torch.cos(angle).round(decimals=15), torch.sin(angle).round(decimals=15)
        return torch.stack((cosine * truth - sine * other, sine * truth + cosine * other)), independent

    monkeypatch.setattr("rfp.geometry.seven_point.null_space", turned_null_space)
    F, valid = seven_point(views.x1, views.x2)
    assert distance_to_truth(F, valid, views.E).max() < 1e-8
    torch.testing.assert_close(torch.linalg.matrix_norm(F)[valid], torch.ones(int(valid.sum())).double())


# --- degenerate samples


def degenerate_samples() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    views, plane = views_of_a_box(1, 7, 7), views_of_a_plane(1, 7, 7, slope=0.3)
    other_plane = views_of_a_plane(1, 7, 8, slope=-0.5)
    line = torch.linspace(-0.5, 0.5, 4, dtype=torch.float64)
    X1 = torch.stack((line, 0.3 * line + 0.1, 4 + line), dim=-1)
    X2 = X1 @ views.R[0].T + views.t[0]
    turned = homogeneous(views.x1[0]) @ views.R[0].T
    repeated1, repeated2 = views.x1[0].clone(), views.x2[0].clone()
    repeated1[6], repeated2[6] = repeated1[0], repeated2[0]
    return {
        "zeros": (torch.zeros(7, 2).double(), torch.zeros(7, 2).double()),
        "one point repeated": (views.x1[0, :1].expand(7, 2), views.x2[0, :1].expand(7, 2)),
        "a match repeated": (repeated1, repeated2),
        "four on a line in space": (
            torch.cat((X1[:, :2] / X1[:, 2:], views.x1[0, :3])),
            torch.cat((X2[:, :2] / X2[:, 2:], views.x2[0, :3])),
        ),
        "seven on a plane": (plane.x1[0], plane.x2[0]),
        "six on a plane": (
            torch.cat((plane.x1[0, :6], other_plane.x1[0, :1])),
            torch.cat((plane.x2[0, :6], other_plane.x2[0, :1])),
        ),
        "pure rotation": (views.x1[0], turned[:, :2] / turned[:, 2:]),
        "NaN": (torch.full((7, 2), torch.nan).double(), views.x2[0]),
        "infinity": (views.x1[0], torch.full((7, 2), torch.inf).double()),
    }


@pytest.mark.parametrize("name", degenerate_samples())
@pytest.mark.parametrize("seed", range(3))
def test_a_degenerate_sample_is_masked_and_leaves_its_neighbours_alone(name, seed):
    views = views_of_a_box(9, 7, seed)
    x1, x2 = views.x1.clone(), views.x2.clone()
    F, valid = seven_point(x1, x2)
    assert valid.any(dim=1).all()
    x1[4], x2[4] = degenerate_samples()[name]
    F_with, valid_with = seven_point(x1, x2)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(F[others], F_with[others])
    assert torch.equal(valid[others], valid_with[others])
    assert not valid_with[4].any()
    assert not F_with[4].any()


def test_five_points_of_a_plane_are_not_degenerate():
    plane, other = views_of_a_plane(200, 5, 9, slope=0.3), views_of_a_plane(200, 2, 10, slope=-0.5)
    views = TwoViews(torch.cat((plane.x1, other.x1), 1), torch.cat((plane.x2, other.x2), 1), plane.R, plane.t)
    assert share_within(views, 1e-6) >= 0.98


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (3, 0)])
def test_any_batch_shape_is_the_stack_of_single_calls(batch):
    points = torch.rand(*batch, 2, 7, 2, generator=torch.Generator().manual_seed(0))
    F, valid = seven_point(points[..., 0, :, :], points[..., 1, :, :])
    assert F.shape == (*batch, 3, 3, 3)
    assert valid.shape == (*batch, 3)
    assert F.dtype == torch.float32
    for problem, F_there, valid_there in zip(points.reshape(-1, 2, 7, 2), F.reshape(-1, 3, 3, 3), valid.view(-1, 3)):
        F_alone, valid_alone = seven_point(problem[0], problem[1])
        assert torch.equal(F_alone, F_there)
        assert torch.equal(valid_alone, valid_there)
