"""RANSAC for absolute pose: accuracy, coordinates of the world, failures."""

import dataclasses

import pytest
import torch

from rfp.records import AbsolutePose, InputError, map_tensors
from rfp.robust.absolute_pose import AbsolutePoseModel, estimate_absolute_pose
from rfp.robust.model import GeometricModel
from tests.geometry.single_views import SingleViews, seen, views_of_depths
from tests.robust.absolute_poses import (
    MAX_ERROR,
    OPTIONS,
    assert_failed,
    camera_centre,
    estimate,
    make_problems,
    make_samples,
    pose_errors,
    reprojection_error,
)

# --- accuracy


def test_the_model_is_one_for_the_loop():
    assert isinstance(AbsolutePoseModel(), GeometricModel)


@pytest.mark.parametrize(("inlier_ratio", "hypotheses"), [(0.25, 1024), (0.4, 256), (0.55, 128), (0.7, 64)])
def test_inliers_lie_within_the_threshold_and_most_are_recalled(inlier_ratio, hypotheses):
    views, x, inlier = make_problems(8, 300, inlier_ratio=inlier_ratio)
    X, x = views.X.float(), x.float()
    pose = estimate(X, x, make_samples(8, 300, hypotheses))
    assert pose.valid.all()
    assert reprojection_error(pose, X, x)[pose.inliers].max() <= 1.001 * MAX_ERROR
    recall = (pose.inliers & inlier).sum(dim=1) / inlier.sum(dim=1)
    assert (recall > 0.7).all()  # of a Rayleigh distribution, 86 % are within two sigma
    assert (pose.inliers & ~inlier).sum(dim=1).max() < 6
    rotation, centre = pose_errors(pose, views)
    assert rotation.max() < 0.5
    assert centre.max() < 0.05


def test_the_noise_averages_out():
    """Two hundred inliers of one pixel at f = 500 leave some hundredths of a degree."""
    views, x, _ = make_problems(24, 300, 1)
    rotation, centre = pose_errors(estimate(views.X.float(), x.float(), make_samples(24, 300)), views)
    assert rotation.median() < 0.06
    assert centre.median() < 0.006


def test_local_optimisation_improves_the_pose():
    views, x, _ = make_problems(24, 200, 2)
    X, x, samples = views.X.float(), x.float(), make_samples(24, 200)
    coarse = estimate(X, x, samples, options=dataclasses.replace(OPTIONS, refinement_iterations=0))
    refined = estimate(X, x, samples)
    assert pose_errors(refined, views)[0].mean() < 0.5 * pose_errors(coarse, views)[0].mean()
    assert (refined.score >= coarse.score).all()


@pytest.mark.parametrize("solver_dtype", ["float32", "float64"])
def test_exact_points_give_the_exact_pose(solver_dtype):
    views, x, inlier = make_problems(6, 60, 3, inlier_ratio=0.6, noise=0.0)
    options = dataclasses.replace(OPTIONS, solver_dtype=solver_dtype)
    pose = estimate(views.X, x, make_samples(6, 60), max_error=1e-4, options=options)
    assert pose.R.dtype == pose.t.dtype == torch.float64
    assert max(error.max() for error in pose_errors(pose, views)) < 1e-9
    assert pose.inliers[inlier].all()
    torch.testing.assert_close(torch.linalg.det(pose.R), torch.ones(6).double(), atol=1e-12, rtol=0)


def test_a_plane_is_as_good_as_any_scene():
    views, _, _ = make_problems(8, 200, 4)
    X = views.X - views.X.mean(dim=1, keepdim=True)
    X[..., 2] = 0.1 * X[..., 0]
    views = seen(X, views.R, torch.tensor([0.3, -0.2, 20.0], dtype=torch.float64).expand(8, 3))
    pose = estimate(X.float(), views.x.float(), make_samples(8, 200), max_error=1e-3)
    rotation, centre = pose_errors(pose, views)
    assert rotation.max() < 0.01
    assert centre.max() < 0.01


def test_points_behind_the_camera_are_no_inliers():
    views, x, _ = make_problems(6, 100, 5, inlier_ratio=1.0, noise=1e-4)
    Y = views.X @ views.R.mT + views.t[:, None]
    behind = torch.arange(100) % 3 == 0  # projected through the centre to the same place of the image
    X = torch.where(behind[:, None], ((-Y) - views.t[:, None]) @ views.R, views.X).float()
    pose = estimate(X, x.float(), make_samples(6, 100, 256))
    assert pose.valid.all()
    assert pose_errors(pose, views)[0].max() < 0.1
    assert torch.equal(pose.inliers, (~behind).expand(6, 100))


def test_weights_count_like_repeated_matches():
    """Inliers that are a minority of the slots win by their counts."""
    views, x, inlier = make_problems(6, 150, 6, inlier_ratio=0.15)
    weight = torch.where(inlier, 12.0, 1.0)
    pose = estimate(views.X.float(), x.float(), make_samples(6, 150, weight=weight), weight=weight)
    assert pose_errors(pose, views)[0].max() < 1
    assert (pose.score > 0.3 * weight.sum(dim=1)).all()


# --- coordinates of the world


def shifted(views: SingleViews, offset: float) -> SingleViews:
    shift = offset * torch.tensor([1.0, -3.0, 0.1], dtype=torch.float64)
    return SingleViews(views.X + shift, views.x, views.R, views.t - (views.R @ shift))


def test_an_offset_of_the_world_costs_nothing_when_its_points_are_float64():
    views, x, _ = make_problems(8, 150, 7)
    samples = make_samples(8, 150)
    near, far = estimate(views.X, x.float(), samples), estimate(shifted(views, 1e5).X, x.float(), samples)
    assert far.R.dtype == far.t.dtype == torch.float64
    torch.testing.assert_close(far.R, near.R, atol=1e-6, rtol=0)
    centre = camera_centre(far.R, far.t) - shifted(SingleViews(torch.zeros(1, 1, 3), x, views.R, views.t), 1e5).X[:, 0]
    torch.testing.assert_close(centre, camera_centre(near.R, near.t), atol=1e-5, rtol=0)
    assert torch.equal(far.inliers, near.inliers)
    assert reprojection_error(far, shifted(views, 1e5).X, x)[far.inliers].max() < 1.001 * MAX_ERROR


def test_in_float32_an_offset_costs_what_the_rounding_of_the_points_costs():
    """At 3e5 float32 has steps of 1/32: noise of a hundredth in a scene of size 4, and in t."""
    views, x, _ = make_problems(8, 150, 8)
    far = shifted(views, 1e5)
    pose = estimate(far.X.float(), x.float(), make_samples(8, 150))
    assert pose.valid.all()
    assert pose.t.dtype == torch.float32
    rotation, _ = pose_errors(pose, far)
    assert rotation.max() < 0.5
    in_camera = (
        far.X @ pose.R.double().mT + pose.t.double()[:, None]
    )  # R as it was rounded, and the t that belongs to it
    truth = far.X @ far.R.mT + far.t[:, None]
    assert (in_camera - truth).norm(dim=-1).max() < 0.1


def test_similar_worlds_have_similar_poses():
    views, x, _ = make_problems(6, 120, 9)
    samples = make_samples(6, 120)
    pose, large = estimate(views.X, x, samples), estimate(1e4 * views.X, x, samples)
    torch.testing.assert_close(large.R, pose.R, atol=1e-9, rtol=0)
    torch.testing.assert_close(large.t, 1e4 * pose.t, atol=1e-4, rtol=0)
    assert torch.equal(large.inliers, pose.inliers)


@pytest.mark.parametrize("farthest", [1e12, -1e35])
def test_one_absurd_point_leaves_the_others_alone(farthest):
    views, x, _ = make_problems(6, 100, 10)
    X, x = views.X.float(), x.float()
    X[:, 3], x[:, 7] = farthest, farthest
    pose = estimate(X, x, make_samples(6, 100))
    assert pose.valid.all()
    assert pose_errors(pose, views)[0].max() < 1
    assert not pose.inliers[:, [3, 7]].any()


# --- failures


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_too_few_slots_are_a_failure(count):
    generator = torch.Generator().manual_seed(0)
    X, x = torch.rand(4, count, 3, generator=generator), torch.rand(4, count, 2, generator=generator)
    pose = estimate_absolute_pose(X, x, max_error=MAX_ERROR, options=OPTIONS, generator=generator)
    assert pose.inliers.shape == (4, count)
    assert_failed(pose)


def test_four_exact_matches_are_enough_and_three_valid_ones_are_not():
    views = views_of_depths(20, 4, 11, depths=(3, 7))
    samples = make_samples(20, 4)
    pose = estimate(views.X, views.x, samples, max_error=1e-4)
    assert pose.valid.all()
    assert (pose_errors(pose, views)[0] < 1e-6).double().mean() > 0.9
    assert_failed(estimate(views.X, views.x, samples, valid=torch.tensor([True, True, True, False]).expand(20, 4)))


def test_masked_matches_are_ignored_nan_included_beside_a_success():
    views, x, _ = make_problems(2, 60, 12)
    X, x, valid = views.X.float(), x.float(), torch.ones(2, 60, dtype=torch.bool)
    valid[0] = False
    X[0, 4:], x[0, 10:] = torch.nan, torch.inf
    pose = estimate(X, x, make_samples(2, 60), valid=valid)
    assert pose.valid.tolist() == [False, True]
    assert_failed(map_tensors(pose, lambda tensor: tensor[:1]))


def test_points_that_are_not_finite_are_no_match():
    views, x, _ = make_problems(4, 80, 13)
    X, x = views.X.float(), x.float()
    X[:, ::9, 1], x[:, 1::9, 0] = torch.nan, torch.inf
    pose = estimate(X, x, make_samples(4, 80))
    assert pose.valid.all()
    assert not pose.inliers[:, ::9].any()
    assert not pose.inliers[:, 1::9].any()
    assert_failed(estimate(X * torch.nan, x, make_samples(4, 80)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_without_extent_are_a_failure(dtype):
    generator = torch.Generator().manual_seed(1)
    X, x = torch.rand(4, 9, 3, generator=generator, dtype=dtype), torch.rand(4, 9, 2, generator=generator, dtype=dtype)
    line = X[:, :1] + torch.linspace(-1, 1, 9, dtype=dtype)[:, None] * torch.tensor([1.0, 2.0, -1.0], dtype=dtype)
    samples = make_samples(4, 9)
    assert_failed(estimate(X[:, :1].expand(4, 9, 3), x[:, :1].expand(4, 9, 2), samples))
    assert_failed(estimate(X[:, :1].expand(4, 9, 3), x, samples))
    assert_failed(estimate(X, x[:, :1].expand(4, 9, 2), samples))
    assert_failed(estimate(X, x[:, :1] + 1e-5 * x, samples))
    assert_failed(estimate(line, line[..., :2] / (line[..., 2:] + 5), samples))
    assert estimate(X, X[..., :2] / (X[..., 2:] + 5), samples).valid.all()


@pytest.mark.parametrize("max_error", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_threshold_is_a_failure(max_error):
    views, x, _ = make_problems(2, 40)
    assert_failed(estimate(views.X.float(), x.float(), make_samples(2, 40), max_error=max_error))


def test_unusable_samples_are_a_failure():
    views, x, _ = make_problems(2, 40)
    assert_failed(estimate(views.X.float(), x.float(), torch.zeros(2, 8, 3, dtype=torch.int64)))
    assert_failed(estimate(views.X.float(), x.float(), torch.full((2, 8, 3), 99)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_is_finite_whatever_comes_in(dtype):
    generator = torch.Generator().manual_seed(2)
    X, x = torch.randn(60, 30, 3, generator=generator), torch.randn(60, 30, 2, generator=generator)
    scales = 10 ** (torch.rand(2, 60, 1, 1, generator=generator, dtype=torch.float64) * 60 - 30)
    pose = estimate((X * scales[0]).to(dtype), (x * scales[1]).to(dtype), make_samples(60, 30))
    for field in dataclasses.fields(AbsolutePose):
        value = getattr(pose, field.name)
        assert value.dtype == torch.bool or torch.isfinite(value).all(), field.name


def test_samples_or_a_generator_are_demanded():
    with pytest.raises(InputError, match="generator"):
        estimate_absolute_pose(torch.rand(9, 3), torch.rand(9, 2), max_error=0.1, generator=None)
