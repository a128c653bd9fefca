"""RANSAC for homographies: accuracy and failures."""

import dataclasses

import pytest
import torch

from rfp.records import Homography, InputError, map_tensors
from rfp.robust.homography import HomographyModel, estimate_homography
from rfp.robust.model import GeometricModel
from tests.geometry.planes import PlaneViews, at_unit_norm, in_pixels, transfer, views_of_planes
from tests.robust.homography_problems import (
    MAX_ERROR,
    OPTIONS,
    corner_errors,
    estimate,
    make_problems,
    make_samples,
    sampson_errors,
)


def assert_failed(found: Homography):
    assert not found.valid.any()
    identity = torch.eye(3, dtype=found.H.dtype).expand_as(found.H) / 3**0.5
    torch.testing.assert_close(found.H, identity)
    assert not found.inliers.any()
    assert not found.score.any()


def test_the_model_is_one_of_the_loop():
    assert isinstance(HomographyModel(), GeometricModel)


# --- accuracy


@pytest.mark.parametrize("inlier_ratio", [0.35, 0.5, 0.7, 0.85])
def test_inliers_lie_within_the_threshold_and_most_are_recalled(inlier_ratio):
    """OpenCV's setting: 1500 points, noise of 0.01 px, a threshold of 1 px."""
    views, x1, x2, inlier = make_problems(4, 1500, inlier_ratio=inlier_ratio, noise=0.01)
    found = estimate(x1, x2, make_samples(4, 1500, 512), max_error=1.0)
    assert found.valid.all()
    assert sampson_errors(found.H, x1, x2)[found.inliers].max() <= 1.001
    recall = (found.inliers & inlier).sum(dim=1) / inlier.sum(dim=1)
    assert (recall > 0.8).all()
    assert corner_errors(found.H, views.H).max() < 0.05


@pytest.mark.parametrize(("inlier_ratio", "hypotheses"), [(0.7, 64), (0.5, 256), (0.25, 2048)])
def test_homographies_are_accurate_under_noise_and_outliers(inlier_ratio, hypotheses):
    views, x1, x2, inlier = make_problems(24, 200, 1, inlier_ratio=inlier_ratio)
    found = estimate(x1, x2, make_samples(24, 200, hypotheses))
    assert found.valid.all()
    errors = corner_errors(found.H, views.H)
    assert errors.median() < 1.5
    assert errors.quantile(0.9) < 4
    torch.testing.assert_close(torch.linalg.matrix_norm(found.H), torch.ones(24))
    w = (x1 * found.H[:, None, 2, :2]).sum(dim=-1) + found.H[:, None, 2, 2]
    assert (w[found.inliers] > 0).all()
    assert (found.inliers & inlier).sum() > 0.75 * inlier.sum()
    assert corner_errors(found.H.mT, views.H).median() > 10


def test_the_default_options_find_homographies_among_three_quarters_of_outliers():
    views, x1, x2, _ = make_problems(24, 300, 17, inlier_ratio=0.25)
    found = estimate_homography(x1, x2, max_error=MAX_ERROR, generator=torch.Generator().manual_seed(0))
    errors = corner_errors(found.H, views.H)
    assert (errors < 5).sum() >= 23
    assert errors.median() < 1.2


def test_local_optimisation_improves_the_homography():
    views, x1, x2, _ = make_problems(24, 200, 2)
    samples = make_samples(24, 200)
    coarse = estimate(x1, x2, samples, options=dataclasses.replace(OPTIONS, refinement_iterations=0))
    refined = estimate(x1, x2, samples)
    assert corner_errors(refined.H, views.H).mean() < 0.5 * corner_errors(coarse.H, views.H).mean()
    assert (refined.score >= coarse.score).all()


def test_float64_points_are_estimated_in_float64():
    views, x1, x2, _ = make_problems(6, 100, 3, inlier_ratio=0.8, noise=0.0, dtype=torch.float64)
    found = estimate(x1, x2, make_samples(6, 100), max_error=1e-6)
    assert found.H.dtype == torch.float64
    assert corner_errors(found.H, views.H).max() < 1e-8


def test_the_float32_solver_is_available():
    views, x1, x2, _ = make_problems(6, 100, 4)
    found = estimate(x1, x2, make_samples(6, 100), options=dataclasses.replace(OPTIONS, solver_dtype="float32"))
    assert corner_errors(found.H, views.H).median() < 2


def test_weights_count_like_repeated_matches():
    """Inliers that are a minority of the slots win by their counts."""
    views, x1, x2, inlier = make_problems(6, 150, 5, inlier_ratio=0.2)
    weight = torch.where(inlier, 12.0, 1.0)
    found = estimate(x1, x2, make_samples(6, 150, weight=weight), weight=weight)
    assert corner_errors(found.H, views.H).max() < 6
    assert (found.score > 0.3 * weight.sum(dim=1)).all()


@pytest.mark.parametrize(("scale", "offset"), [(1 / 500, -0.8), (1.0, 3000.0), (20.0, 0.0), (1e7, 0.0)])
def test_the_unit_and_the_origin_of_the_points_do_not_matter(scale, offset):
    _, x1, x2, _ = make_problems(6, 120, 6)
    samples = make_samples(6, 120)
    expected = estimate(x1, x2, samples)
    found = estimate(scale * x1 + offset, scale * x2 + offset, samples, max_error=scale * MAX_ERROR)
    similarity = torch.tensor([[scale, 0, offset], [0, scale, offset], [0, 0, 1]], dtype=torch.float64)
    H = at_unit_norm(torch.linalg.inv(similarity) @ found.H.double() @ similarity)
    assert corner_errors(H, expected.H.double()).max() < 0.05
    assert (found.inliers != expected.inliers).double().mean() < 0.01


def test_map_coordinates_are_far_from_the_origin():
    """Metres of a UTM zone, and the same with all about the origin."""
    _, x1, x2, _ = make_problems(6, 120, 6, dtype=torch.float64)
    samples, origin = make_samples(6, 120), torch.tensor([5.0e5, 5.4e6], dtype=torch.float64)
    expected = estimate(x1, x2, samples)
    found = estimate(x1 + origin, x2 + origin, samples)
    assert found.valid.all()
    assert torch.equal(found.inliers, expected.inliers)
    inlier = torch.where(expected.inliers[..., None], x1, 400)
    torch.testing.assert_close(
        transfer(found.H, inlier + origin), transfer(expected.H, inlier) + origin, atol=1e-4, rtol=0
    )


def test_a_camera_that_comes_closer_magnifies_and_keeps_its_inliers():
    """Noise of the first image counts once: the distance in the second image alone would lose most matches."""
    views, x1, x2, inlier = make_problems(8, 200, 7, noise=0.7)
    magnified = PlaneViews(x1, 6 * x2, at_unit_norm(torch.diag(torch.tensor([6.0, 6.0, 1.0]).double()) @ views.H))
    noise = 0.7 * torch.randn(x2.shape, generator=torch.Generator().manual_seed(8))
    found = estimate(magnified.x1, magnified.x2 + noise, make_samples(8, 200))
    assert (found.inliers & inlier).sum() > 0.8 * inlier.sum()
    assert (corner_errors(found.H, magnified.H) / 6).median() < 1.5


def test_matches_behind_the_camera_are_no_inliers():
    """Points beyond the horizon satisfy x2 ~ H x1 with w < 0."""
    H = torch.tensor([[1.0, 0.1, 20.0], [0.0, 1.0, 10.0], [2e-3, 0.0, 1.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(9)
    x1 = 500 * torch.rand(1, 120, 2, generator=generator, dtype=torch.float64)
    x1[:, 80:, 0] -= 1200
    w = H[2, 0] * x1[..., 0] + 1
    assert (w[:, :80] > 0).all()
    assert (w[:, 80:] < 0).all()
    found = estimate(x1, transfer(H, x1), make_samples(1, 120), max_error=0.1)
    assert found.inliers[:, :80].all()
    assert not found.inliers[:, 80:].any()


# --- failures


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_slots_are_a_failure(count):
    generator = torch.Generator().manual_seed(0)
    x1, x2 = torch.rand(2, 3, count, 2, generator=generator)
    found = estimate_homography(x1, x2, max_error=MAX_ERROR, options=OPTIONS, generator=generator)
    assert found.inliers.shape == (3, count)
    assert_failed(found)


@pytest.mark.parametrize("count", [3, 4])
def test_fewer_than_five_valid_matches_are_a_failure_beside_a_success(count):
    _, x1, x2, _ = make_problems(3, 60)
    valid = torch.ones(3, 60, dtype=torch.bool)
    valid[0, count:], valid[2] = False, False
    x1[0, count:], x2[0, 10:], x1[2] = torch.nan, torch.inf, torch.nan
    found = estimate(x1, x2, make_samples(3, 60, weight=valid.float()), valid=valid)
    assert found.valid.tolist() == [False, True, False]
    assert_failed(map_tensors(found, lambda tensor: tensor[::2]))


def test_a_match_listed_twice_is_no_fifth_one():
    views = in_pixels(views_of_planes(6, 5, 3))
    found = estimate(views.x1, views.x2, make_samples(6, 5))
    assert found.valid.all()
    assert found.inliers.all()
    again = torch.tensor([0, 1, 2, 3, 3, 0, 1])
    assert_failed(estimate(views.x1[:, again], views.x2[:, again], make_samples(6, 7)))


def test_chance_alone_seldom_gives_a_fifth_inlier():
    x1, x2 = 600 * torch.rand(2, 100, 10, 2, generator=torch.Generator().manual_seed(18))
    assert estimate(x1, x2, make_samples(100, 10)).valid.double().mean() < 0.2


def test_points_that_are_not_finite_are_no_matches():
    views, x1, x2, _ = make_problems(4, 100, 10)
    x1[:, 3], x2[:, 7, 1], x1[:, 9], x2[:, 11] = torch.nan, torch.inf, 1e25, -1e35
    found = estimate(x1, x2, make_samples(4, 100, 128))
    assert found.valid.all()
    assert not found.inliers[:, [3, 7, 9, 11]].any()
    assert corner_errors(found.H, views.H).max() < 5
    assert_failed(estimate(torch.full_like(x1, torch.nan), x2, make_samples(4, 100)))


@pytest.mark.parametrize("jitter", [0.0, 1e-6, 1e-3, 0.1])
def test_nearly_identical_points_have_no_model(jitter):
    offsets = torch.randn(2, 4, 7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * jitter
    for dtype in (torch.float32, torch.float64):
        assert_failed(estimate((100 + offsets[0]).to(dtype), (-200 + offsets[1]).to(dtype), make_samples(4, 7)))


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("images", ["first", "second", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_on_a_line_have_no_model(noise, images, dtype):
    generator = torch.Generator().manual_seed(2)
    along = 600 * torch.rand(4, 50, 1, generator=generator, dtype=torch.float64)
    line = torch.cat((along, 0.3 * along + 100), dim=-1)
    shifted = transfer(torch.tensor([[1.1, 0.1, 5.0], [0.0, 0.9, 20.0], [1e-4, 0.0, 1.0]]).double(), line)
    anywhere = 600 * torch.rand(4, 50, 2, generator=generator, dtype=torch.float64)
    x1, x2 = (line, shifted) if images == "both" else (line, anywhere) if images == "first" else (anywhere, line)
    x1, x2 = (x + noise * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (x1, x2))
    assert_failed(estimate(x1.to(dtype), x2.to(dtype), make_samples(4, 50)))


def test_points_on_a_line_among_outliers_have_no_model():
    """One outlier that fits by chance beside the line does not make a plane of it."""
    generator = torch.Generator().manual_seed(3)
    along = 600 * torch.rand(8, 60, 1, generator=generator)
    x1 = torch.cat((along, 0.3 * along + 100), dim=-1)
    x1, x2 = x1 + 0.7 * torch.randn(x1.shape, generator=generator), 1.1 * x1 + 5
    wild1, wild2 = 600 * torch.rand(2, 8, 40, 2, generator=generator)
    x1, x2 = torch.cat((x1, wild1), dim=1), torch.cat((x2, wild2), dim=1)
    assert_failed(estimate(x1, x2, make_samples(8, 100, 512)))


def test_two_matches_off_a_line_are_enough_for_a_homography():
    H = torch.tensor([[1.1, 0.1, 5.0], [0.0, 0.9, 20.0], [1e-4, 0.0, 1.0]], dtype=torch.float64)
    along = torch.linspace(0, 600, 20, dtype=torch.float64)[:, None]
    off = torch.tensor([[100.0, 500.0], [500.0, 20.0]], dtype=torch.float64)
    x1 = torch.cat((torch.cat((along, 0.3 * along + 100), dim=-1), off))[None]
    found = estimate(x1, transfer(H, x1), make_samples(1, 22, 512), max_error=0.5)
    assert found.inliers.all()
    assert corner_errors(found.H, H[None]).max() < 1e-6


def test_a_mirror_image_has_no_model():
    _, x1, x2, _ = make_problems(3, 60, 11, inlier_ratio=1.0, noise=0.3)
    assert estimate(x1, x2, make_samples(3, 60)).inliers.float().mean() > 0.95
    mirrored = estimate(x1, x2 * torch.tensor([-1.0, 1.0]), make_samples(3, 60))
    assert mirrored.inliers.float().mean() < 0.2


@pytest.mark.parametrize("max_error", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_threshold_is_a_failure(max_error):
    _, x1, x2, _ = make_problems(2, 40)
    assert_failed(estimate(x1, x2, make_samples(2, 40), max_error=max_error))


def test_no_inlier_lies_beyond_a_threshold_below_rounding():
    _, x1, _, _ = make_problems(2, 40)
    for max_error in (1e-30, 1e-6):
        assert_failed(estimate(x1, 2 * x1 + 1, make_samples(2, 40), max_error=max_error))
    assert estimate(x1.double(), 2 * x1.double() + 1, make_samples(2, 40), max_error=1e-6).valid.all()


@pytest.mark.parametrize("weight", [1e12, 1e37])
def test_weights_of_any_size_leave_the_score_finite(weight):
    views, x1, x2, _ = make_problems(3, 60, 4)
    found = estimate(x1, x2, make_samples(3, 60), weight=torch.full((3, 60), weight))
    torch.testing.assert_close(found.score, 1e12 * estimate(x1, x2, make_samples(3, 60)).score, rtol=1e-3, atol=0)
    assert corner_errors(found.H, views.H).max() < 5


def test_unusable_samples_are_a_failure():
    _, x1, x2, _ = make_problems(2, 40)
    assert_failed(estimate(x1, x2, torch.zeros(2, 8, 4, dtype=torch.int64)))
    assert_failed(estimate(x1, x2, torch.full((2, 8, 4), 99)))


@pytest.mark.parametrize("max_error", [1e-30, 1e-6, MAX_ERROR, 1e30])
def test_everything_is_finite_whatever_comes_in(max_error):
    generator = torch.Generator().manual_seed(3)
    x1, x2 = torch.randn(2, 60, 30, 2, generator=generator)
    scale = 10 ** (torch.rand(60, 1, 1, generator=generator) * 80 - 40)
    for first, second in ((x1 * scale, x2 / scale), (x1 * scale, x2 * scale)):
        found = estimate(first, second, make_samples(60, 30), max_error=max_error)
        for field in dataclasses.fields(Homography):
            value = getattr(found, field.name)
            assert value.dtype == torch.bool or torch.isfinite(value).all(), field.name
        assert (found.inliers.sum(dim=1) >= 5)[found.valid].all()


def test_samples_or_a_generator_are_demanded():
    with pytest.raises(InputError, match="generator"):
        estimate_homography(torch.rand(9, 2), torch.rand(9, 2), max_error=0.1, generator=None)
