"""RANSAC for fundamental matrices: accuracy, scenes that do not determine one, failures."""

import dataclasses

import pytest
import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.records import InputError, map_tensors
from rfp.robust.fundamental import FundamentalModel, estimate_fundamental
from rfp.robust.model import GeometricModel
from rfp.robust.options import RansacOptions
from tests.geometry.scenes import views_of_a_box
from tests.robust.fundamental_problems import (
    MAX_ERROR_PX,
    OPTIONS,
    assert_failed,
    errors_px,
    estimate,
    make_problems,
    make_samples,
    scenes_with_a_plane,
)


def test_the_model_is_one_of_the_loop():
    assert isinstance(FundamentalModel(), GeometricModel)


# --- accuracy


@pytest.mark.parametrize("inlier_ratio", [0.35, 0.5, 0.7, 0.85])
def test_inliers_lie_within_the_threshold_and_most_are_recalled(inlier_ratio):
    """OpenCV's setting: 1500 points, noise of 0.01 px, a threshold of 1 px."""
    exact, x1, x2, inlier = make_problems(4, 1500, inlier_ratio=inlier_ratio, noise_px=0.01)
    found = estimate_fundamental(
        x1, x2, max_error=1.0, options=RansacOptions(num_hypotheses=512), generator=torch.Generator().manual_seed(0)
    )
    assert found.valid.all()
    error = sampson_distance(x1.double(), x2.double(), found.F.double()).sqrt()
    assert error[found.inliers].max() <= 1.001
    recall = (found.inliers & inlier).sum(dim=1) / inlier.sum(dim=1)
    assert (recall > 0.8).all()
    assert errors_px(found, exact).max() < 0.1


@pytest.mark.parametrize(("inlier_ratio", "limit"), [(0.7, 0.3), (0.4, 0.5)])
def test_matrices_are_accurate_under_noise_and_outliers(inlier_ratio, limit):
    exact, x1, x2, _ = make_problems(24, 200, 1, inlier_ratio=inlier_ratio)
    found = estimate(x1, x2, make_samples(24, 200, 512))
    assert found.valid.double().mean() >= 0.95
    assert errors_px(found, exact).median() < limit
    assert errors_px(found, (exact[1], exact[0])).median() > 5  # F transposed would be noticed
    rolled = map_tensors(found, lambda tensor: tensor.roll(1, 0))
    assert errors_px(rolled, exact).median() > 5


def test_the_matrix_has_rank_two_and_norm_one():
    _, x1, x2, _ = make_problems(10, 100, 2, dtype=torch.float64)
    found = estimate(x1, x2, make_samples(10, 100))
    assert found.F.dtype == torch.float64
    torch.testing.assert_close(torch.linalg.matrix_norm(found.F), torch.ones(10).double())
    values = torch.linalg.svdvals(found.F)
    assert (values[:, 2] < 1e-15).all()
    assert (values[:, 1] > 1e-8).all()


def test_exact_points_are_estimated_in_float64():
    exact, x1, x2, _ = make_problems(6, 100, 3, inlier_ratio=0.8, noise_px=0.0, dtype=torch.float64)
    found = estimate(x1, x2, make_samples(6, 100), max_error=1e-3)
    assert errors_px(found, exact).max() < 1e-6


def test_local_optimisation_raises_the_score():
    """Errors do not tell: the search beside the dominant plane refines what it finds in any case."""
    _, x1, x2, _ = make_problems(24, 200, 4)
    samples = make_samples(24, 200)
    coarse = estimate(x1, x2, samples, options=dataclasses.replace(OPTIONS, refinement_iterations=0))
    refined = estimate(x1, x2, samples)
    assert refined.score.sum() > coarse.score.sum()


@pytest.mark.parametrize("change", [{"solver_dtype": "float32"}, {"score": "likelihood"}])
def test_options_of_the_loop_serve_here_too(change):
    exact, x1, x2, _ = make_problems(8, 150, 5)
    found = estimate(x1, x2, make_samples(8, 150), options=dataclasses.replace(OPTIONS, **change))
    assert errors_px(found, exact).median() < 0.5


def test_weights_count_like_repeated_matches():
    """Inliers that are a minority of the slots win by their counts."""
    exact, x1, x2, inlier = make_problems(6, 150, 6, inlier_ratio=0.25)
    weight = torch.where(inlier, 12.0, 1.0)
    found = estimate(x1, x2, make_samples(6, 150, weight=weight), weight=weight)
    assert errors_px(found, exact).max() < 1.5
    assert (found.score > 0.3 * weight.sum(dim=1)).all()


def test_swapping_images_transposes_F():
    exact, x1, x2, _ = make_problems(12, 150, 7)
    samples = make_samples(12, 150)
    found, swapped = estimate(x1, x2, samples), estimate(x2, x1, samples)
    assert errors_px(swapped, (exact[1], exact[0])).max() < 1
    assert errors_px(dataclasses.replace(swapped, F=swapped.F.mT), exact).max() < 1
    assert errors_px(dataclasses.replace(found, F=found.F.mT), exact).median() > 5


@pytest.mark.parametrize("unit", [1e-3, 40.0])
def test_the_unit_of_the_points_does_not_matter(unit):
    exact, x1, x2, _ = make_problems(8, 100, 8, dtype=torch.float64)
    samples = make_samples(8, 100)
    found = estimate(x1, x2, samples)
    scaled = estimate(unit * x1 - 7, unit * x2 + 9, samples, max_error=unit * MAX_ERROR_PX)
    assert torch.equal(scaled.valid, found.valid)
    agree = scaled.inliers == found.inliers
    assert agree.double().mean() > 0.999
    scaled_exact = (unit * exact[0] - 7, unit * exact[1] + 9)
    torch.testing.assert_close(errors_px(scaled, scaled_exact) / unit, errors_px(found, exact), rtol=1e-3, atol=1e-6)


# --- scenes that do not determine F, and those that nearly do not


@pytest.mark.parametrize("inlier_ratio", [1.0, 0.6])
@pytest.mark.parametrize("noise_px", [0.0, 1.0])
def test_a_plane_has_no_fundamental_matrix(inlier_ratio, noise_px):
    views = scenes_with_a_plane(24, 150, 9, share_beside=0.0)
    _, x1, x2, _ = make_problems(24, 150, 9, inlier_ratio=inlier_ratio, noise_px=noise_px, views=views)
    assert_failed(estimate(x1, x2, make_samples(24, 150)))


def test_a_camera_that_only_turns_has_no_fundamental_matrix():
    box = views_of_a_box(24, 150, 10)
    X2 = torch.cat((box.x1, torch.ones_like(box.x1[..., :1])), dim=-1) @ box.R.mT
    views = dataclasses.replace(box, x2=X2[..., :2] / X2[..., 2:])
    _, x1, x2, _ = make_problems(24, 150, 10, views=views)
    assert_failed(estimate(x1, x2, make_samples(24, 150)))


@pytest.mark.parametrize(
    ("share_beside", "inlier_ratio", "least"), [(0.2, 1.0, 1.0), (0.25, 0.7, 0.9), (0.4, 0.5, 0.9)]
)
def test_a_plane_and_points_beside_it_have_one(share_beside, inlier_ratio, least):
    views = scenes_with_a_plane(32, 200, 11, share_beside=share_beside)
    exact, x1, x2, _ = make_problems(32, 200, 11, inlier_ratio=inlier_ratio, views=views)
    found = estimate(x1, x2, make_samples(32, 200))
    error = errors_px(found, exact)
    assert found.valid.double().mean() >= least
    assert (error[found.valid] < 2).double().mean() > 0.95


def test_few_points_beside_a_plane_are_found_or_given_up_but_not_wrong():
    views = scenes_with_a_plane(48, 200, 12, share_beside=0.05)
    exact, x1, x2, _ = make_problems(48, 200, 12, inlier_ratio=0.7, views=views)
    found = estimate(x1, x2, make_samples(48, 200))
    assert (errors_px(found, exact)[found.valid] > 2).sum() <= 1
    assert not found.valid.all()


@pytest.mark.parametrize("count", [8, 12, 40, 200])
def test_random_matches_have_no_fundamental_matrix(count):
    x1, x2 = 500 * torch.rand(2, 24, count, 2, generator=torch.Generator().manual_seed(13))
    assert estimate(x1, x2, make_samples(24, count)).valid.sum() <= 1


def test_map_coordinates_are_far_from_the_origin():
    """Metres of a UTM zone, and the same with all about the origin."""
    _, x1, x2, _ = make_problems(3, 80, 6, dtype=torch.float64)
    samples, origin = make_samples(3, 80), torch.tensor([5.0e5, 5.4e6], dtype=torch.float64)
    expected, found = (estimate(x1 + move, x2 + move, samples) for move in (0 * origin, origin))
    assert torch.equal(found.valid, expected.valid)
    assert found.valid.sum() >= 2
    assert torch.equal(found.inliers, expected.inliers)
    error = sampson_distance(x1 + origin, x2 + origin, found.F).sqrt()
    assert error[found.inliers].max() <= 1.001 * MAX_ERROR_PX


# --- failures


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_too_few_slots_are_a_failure(count):
    generator = torch.Generator().manual_seed(0)
    x1, x2 = torch.rand(2, 3, count, 2, generator=generator)
    found = estimate_fundamental(x1, x2, max_error=0.01, options=OPTIONS, generator=generator)
    assert found.inliers.shape == (3, count)
    assert_failed(found)


def test_too_few_valid_matches_are_a_failure_beside_a_success():
    _, x1, x2, _ = make_problems(3, 60)
    valid = torch.ones(3, 60, dtype=torch.bool)
    valid[0, 6:], valid[2] = False, False
    x1[0, 6:], x2[0, 10:], x2[2] = torch.nan, torch.inf, torch.nan
    found = estimate(x1, x2, make_samples(3, 60, weight=valid.float()), valid=valid)
    assert found.valid.tolist() == [False, True, False]
    assert_failed(map_tensors(found, lambda tensor: tensor[::2]))


@pytest.mark.parametrize("jitter", [0.0, 1e-9, 1e-6, 1e-3, 0.3])
def test_nearly_identical_points_have_no_model(jitter):
    offsets = torch.randn(2, 4, 12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * jitter
    for dtype in (torch.float32, torch.float64):
        found = estimate((100 + offsets[0]).to(dtype), (200 + offsets[1]).to(dtype), make_samples(4, 12))
        assert_failed(found)


@pytest.mark.parametrize("max_error", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_threshold_is_a_failure(max_error):
    _, x1, x2, _ = make_problems(2, 40)
    assert_failed(estimate(x1, x2, make_samples(2, 40), max_error=max_error))


def test_unusable_samples_are_a_failure():
    _, x1, x2, _ = make_problems(2, 40)
    assert_failed(estimate(x1, x2, torch.zeros(2, 8, 7, dtype=torch.int64)))
    assert_failed(estimate(x1, x2, torch.full((2, 8, 7), 99)))


def test_everything_is_finite_whatever_comes_in():
    generator = torch.Generator().manual_seed(2)
    x1, x2 = torch.randn(2, 40, 30, 2, generator=generator)
    scale = 10 ** (torch.rand(40, 1, 1, generator=generator) * 60 - 30)
    found = estimate(x1 * scale, x2 / scale, make_samples(40, 30))
    for value in (found.F, found.score):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("farthest", [9e5, 1e25, -1e35])
def test_one_absurd_point_leaves_the_others_alone(farthest):
    exact, x1, x2, _ = make_problems(6, 100, 14)
    x1[:, 3], x2[:, 7] = farthest, farthest
    found = estimate(x1, x2, make_samples(6, 100))
    assert errors_px(found, exact).max() < 1.5


def test_samples_or_a_generator_are_demanded():
    with pytest.raises(InputError, match="generator"):
        estimate_fundamental(torch.rand(9, 2), torch.rand(9, 2), max_error=0.1, generator=None)
