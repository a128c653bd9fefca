"""What a relative pose is worth: its covariance, cameras that only turn, and common random numbers."""

import dataclasses

import pytest
import torch

from rfp.geometry.pose import relative_pose_error
from rfp.records import Correspondences, InputError, RelativePose, map_tensors
from rfp.robust.options import RansacOptions
from rfp.robust.refinement import tangent_basis
from rfp.robust.relative_pose import RelativePoseEstimator, estimate_relative_pose, relative_pose_covariance
from tests.geometry.scenes import make_rotations, uniform, unit_vectors, views_of_a_box

OPTIONS = RansacOptions(num_hypotheses=64, resample_rounds=1)
NOISE = 0.5 / 500


def test_the_covariance_is_that_of_poses_estimated_again_and_again():
    views = views_of_a_box(1, 120, 4)
    generator = torch.Generator().manual_seed(0)
    draws = 300
    x1, x2 = (
        x.expand(draws, -1, -1) + NOISE * torch.randn(draws, 120, 2, generator=generator, dtype=torch.float64)
        for x in (views.x1, views.x2)
    )
    pose = estimate_relative_pose(x1, x2, max_error=6 * NOISE, options=OPTIONS, generator=generator)
    assert pose.valid.all()
    turn = pose.R @ views.R.mT
    rotation = 0.5 * torch.stack(
        (turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]), dim=-1
    )
    moved = torch.stack([(pose.t * axis).sum(dim=-1) for axis in tangent_basis(views.t)], dim=-1)
    sampled = torch.cat((rotation, moved), dim=-1).T.cov()
    predicted = relative_pose_covariance(pose, x1, x2).mean(dim=0)
    ratio = predicted.diagonal().sqrt() / sampled.diagonal().sqrt()
    assert ((ratio > 0.8) & (ratio < 1.25)).all(), ratio
    scale = sampled.diagonal().sqrt()
    torch.testing.assert_close(predicted / scale / scale[:, None], sampled / scale / scale[:, None], atol=0.35, rtol=0)
    told = relative_pose_covariance(pose, x1, x2, sigma=2 * NOISE).mean(dim=0)
    assert 3 < (told.diagonal() / predicted.diagonal()).mean() < 5, "twice the noise, four times the variance"


def test_weights_of_the_covariance_are_repeated_matches():
    views = views_of_a_box(3, 40, 6)
    generator = torch.Generator().manual_seed(6)
    x1, x2 = (x + NOISE * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (views.x1, views.x2))
    pose = estimate_relative_pose(x1, x2, max_error=6 * NOISE, options=OPTIONS, generator=generator)
    assert pose.inliers.all()
    counts = torch.randint(1, 5, (40,), generator=generator)
    weight = counts.double().expand(3, 40)
    repeated = dataclasses.replace(pose, inliers=pose.inliers.repeat_interleave(counts, dim=1))
    points = (x1.repeat_interleave(counts, dim=1), x2.repeat_interleave(counts, dim=1))
    for sigma in (None, NOISE):
        weighted = relative_pose_covariance(pose, x1, x2, sigma=sigma, weight=weight)
        torch.testing.assert_close(weighted, relative_pose_covariance(repeated, *points, sigma=sigma))
        assert (weighted / relative_pose_covariance(pose, x1, x2, sigma=sigma) - 1).abs().max() > 0.05


def test_a_pose_that_failed_has_no_covariance():
    x = torch.zeros(2, 6, 2)
    pose = estimate_relative_pose(x, x, max_error=0.01, options=OPTIONS, generator=torch.Generator())
    assert not relative_pose_covariance(pose, x, x).any()
    assert relative_pose_covariance(pose, x, x).shape == (2, 5, 5)


def test_covariances_of_no_poses_at_all():
    x = torch.zeros(0, 6, 2)
    pose = estimate_relative_pose(x, x, max_error=0.01, options=OPTIONS, generator=torch.Generator())
    assert relative_pose_covariance(pose, x, x).shape == (0, 5, 5)


@pytest.mark.parametrize("count", [5, 6, 12])
def test_five_matches_fit_too_many_poses_to_tell_one(count):
    views = views_of_a_box(20, count, 11)
    pose = estimate_relative_pose(
        views.x1, views.x2, max_error=1 / 500, options=OPTIONS, generator=torch.Generator().manual_seed(0)
    )
    assert pose.valid.all() if count > 5 else not pose.valid.any()


@pytest.mark.parametrize("noise", [0.0, NOISE, 2 * NOISE])
def test_a_camera_that_only_turns_has_no_translation_to_find(noise):
    generator = torch.Generator().manual_seed(1)
    (x1,) = uniform(generator, 1, 20, 150, 2, low=-0.5, high=0.5)
    R = make_rotations(0.3 * unit_vectors(20, generator))
    X2 = torch.cat((x1, torch.ones_like(x1[..., :1])), dim=-1) @ R.mT
    x2 = X2[..., :2] / X2[..., 2:]
    x1, x2 = (x + noise * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (x1, x2))
    pose = estimate_relative_pose(x1, x2, max_error=2 / 500, options=OPTIONS, generator=generator)
    assert pose.valid.double().mean() <= 0.05


@pytest.mark.parametrize(("count", "inliers"), [(1000, 0.5), (500, 0.3)])
def test_wrong_matches_give_no_translation_to_a_camera_that_only_turns(count, inliers):
    generator = torch.Generator().manual_seed(1)
    x1, x2 = uniform(generator, 2, 12, count, 2, low=-0.5, high=0.5)
    R = make_rotations(0.3 * unit_vectors(12, generator))
    X2 = torch.cat((x1, torch.ones_like(x1[..., :1])), dim=-1) @ R.mT
    right = torch.rand(12, count, 1, generator=generator) < inliers
    x2 = torch.where(right, X2[..., :2] / X2[..., 2:], x2)
    x1, x2 = (x + NOISE * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (x1, x2))
    assert not estimate_relative_pose(x1, x2, max_error=2 / 500, options=OPTIONS, generator=generator).valid.any()


@pytest.mark.parametrize("parallax", [5.0, 8.0])
def test_a_motion_of_a_few_thresholds_is_kept(parallax):
    """In a scene 3 to 5 away a motion of b moves points by about a quarter of b."""
    views = views_of_a_box(20, 150, 2)
    generator = torch.Generator().manual_seed(0)
    X1 = torch.cat((views.x1, torch.ones_like(views.x1[..., :1])), dim=-1) * (
        3 + 2 * torch.rand(20, 150, 1, generator=generator, dtype=torch.float64)
    )
    X2 = X1 @ views.R.mT + 4 * parallax * (0.2 / 500) * views.t[:, None]
    x2 = X2[..., :2] / X2[..., 2:]
    pose = estimate_relative_pose(views.x1, x2, max_error=0.2 / 500, options=OPTIONS, generator=generator)
    assert pose.valid.double().mean() >= 0.9


def test_repeated_matches_are_no_evidence():
    views = views_of_a_box(20, 5, 11)
    x1, x2 = (x.repeat(1, 3, 1) for x in (views.x1, views.x2))
    pose = estimate_relative_pose(
        x1, x2, max_error=1 / 500, options=OPTIONS, generator=torch.Generator().manual_seed(0)
    )
    assert not pose.valid.any()


def test_a_direction_that_nothing_measures_leaves_no_covariance():
    """Four different inliers measure four of the five directions; rounding must not make the fifth look certain."""
    views = views_of_a_box(20, 4, 5)
    x1, x2 = (x.repeat(1, 3, 1) for x in (views.x1, views.x2))
    pose = RelativePose(
        R=views.R,
        t=views.t,
        E=views.R,
        inliers=torch.ones(20, 12, dtype=torch.bool),
        score=torch.ones(20),
        valid=torch.ones(20, dtype=torch.bool),
    )
    assert not relative_pose_covariance(pose, x1, x2, sigma=NOISE).any()
    assert not relative_pose_covariance(pose, x1.float(), x2.float(), sigma=NOISE).any()


def test_a_camera_that_moves_keeps_its_pose():
    views = views_of_a_box(20, 150, 2)
    pose = estimate_relative_pose(
        views.x1, views.x2, max_error=0.2 / 500, options=OPTIONS, generator=torch.Generator().manual_seed(0)
    )
    assert pose.valid.all()
    errors = relative_pose_error(pose.R, pose.t, views.R, views.t, fold_translation=False)
    assert torch.rad2deg(torch.maximum(*errors)).max() < 0.01


def test_a_motion_of_a_few_thresholds_is_a_motion():
    """Twelve matches of four to six thresholds beside the rotation, the others at infinity."""
    generator = torch.Generator().manual_seed(5)
    threshold = 1 / 500
    x1 = uniform(generator, 10, 60, 2, low=-0.5, high=0.5)
    R = make_rotations(0.2 * unit_vectors(10, generator))
    parallax = torch.zeros(10, 60, 1, dtype=torch.float64)
    parallax[:, :12] = uniform(generator, 10, 12, 1, low=4.2, high=5.8) * threshold
    t = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(10, 3)
    X2 = torch.cat((x1, torch.ones_like(x1[..., :1])), dim=-1) @ R.mT
    X2 = X2 + parallax * X2[..., 2:] * t[:, None]  # along the image of camera 2, by that many thresholds
    pose = estimate_relative_pose(
        x1, X2[..., :2] / X2[..., 2:], max_error=threshold, options=OPTIONS, generator=generator
    )
    assert pose.valid.all()


def correspondences(draws: int) -> Correspondences:
    """The same matches for every draw of two pairs: (B, S, T, M)."""
    views = views_of_a_box(2, 60, 3)
    generator = torch.Generator().manual_seed(3)
    x1, x2 = (
        (x + NOISE * torch.randn(x.shape, generator=generator, dtype=x.dtype))
        .float()[:, None, None]
        .expand(2, 2, draws, 60, 2)
        for x in (views.x1, views.x2)
    )
    K = torch.eye(3).expand(2, 2, draws, 3, 3)
    mask = torch.ones(2, 2, draws, 60, dtype=torch.bool)
    return Correspondences(xy1_px=x1, xy2_px=x2, x1=x1, x2=x2, weight=mask.float(), valid=mask, K1=K, K2=K)


def test_common_random_numbers_give_equal_draws_equal_poses():
    matches = correspondences(3)
    noise = torch.rand(2, 2, 3, 8, 5, generator=torch.Generator().manual_seed(4))
    options = RansacOptions(num_hypotheses=8, resample_rounds=0, refinement_iterations=0)

    def poses(common: bool) -> RelativePose:
        estimator = RelativePoseEstimator(6 * NOISE, options, common_random_numbers=common)
        return estimator(matches, noise)

    common, apart = poses(True), poses(False)
    assert torch.equal(common.R, common.R[:, :1, :1].expand_as(common.R))
    assert not torch.equal(apart.R, apart.R[:, :1, :1].expand_as(apart.R))
    torch.testing.assert_close(common.R[:, 0, 0], apart.R[:, 0, 0], atol=0, rtol=0)


@pytest.mark.parametrize("draws", [(), (3,), (2, 3)])
def test_common_random_numbers_want_pairs_and_draws(draws):
    matches = map_tensors(correspondences(3), lambda tensor: tensor[(0,) * (3 - len(draws))])
    estimator = RelativePoseEstimator(6 * NOISE, OPTIONS, common_random_numbers=True)
    with pytest.raises(InputError, match="pairs, draws, draws"):
        estimator(matches, torch.rand(*draws, *estimator.noise_shape))
