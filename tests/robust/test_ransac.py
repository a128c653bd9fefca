"""RANSAC for relative pose: accuracy, failures, and laws of the batch."""

import dataclasses

import pytest
import torch

from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import essential_from_pose, relative_pose_error
from rfp.records import Correspondences, InputError, RelativePose, map_tensors
from rfp.robust.minimal_samples import draw_minimal_samples, weights_of_order
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import RelativePoseEstimator, estimate_relative_pose
from tests.geometry.scenes import contaminate, views_of_a_box
from tests.robust.laws import assert_same_bits

OPTIONS = RansacOptions(num_hypotheses=64)
MAX_ERROR = 2 / 500


def make_problems(n, count, seed=0, *, inlier_ratio=0.7, noise=1 / 500, dtype=torch.float32):
    views = views_of_a_box(n, count, seed)
    x1, x2, inlier = contaminate(views.x1, views.x2, seed, inlier_ratio=inlier_ratio, noise=noise, extent=0.6)
    return views, x1.to(dtype), x2.to(dtype), inlier


def make_samples(n, count, hypotheses=64, seed=0, weight=None):
    noise = torch.rand(n, hypotheses, 5, generator=torch.Generator().manual_seed(seed))
    return draw_minimal_samples(noise, torch.ones(n, count) if weight is None else weight)[0]


def estimate(x1, x2, samples, **arguments) -> RelativePose:
    arguments = {"max_error": MAX_ERROR, "options": OPTIONS, "generator": None, **arguments}
    return estimate_relative_pose(x1, x2, samples=samples, **arguments)


def assert_failed(pose: RelativePose):
    assert not pose.valid.any()
    assert torch.equal(pose.R, torch.eye(3).expand_as(pose.R))
    assert torch.equal(pose.t, torch.tensor([0.0, 0.0, 1.0]).expand_as(pose.t))
    assert not pose.E.any()
    assert not pose.inliers.any()
    assert torch.isfinite(pose.score).all()


def pose_errors(pose: RelativePose, views):
    errors = relative_pose_error(pose.R.double(), pose.t.double(), views.R, views.t, fold_translation=False)
    return torch.rad2deg(torch.maximum(*errors))


# --- accuracy


@pytest.mark.parametrize("inlier_ratio", [0.35, 0.5, 0.7, 0.85])
def test_inliers_lie_within_the_threshold_and_most_are_recalled(inlier_ratio):
    """OpenCV's setting: 1500 points, noise of 0.01 px, a threshold of 1 px."""
    threshold = 1 / 500
    views, x1, x2, inlier = make_problems(4, 1500, inlier_ratio=inlier_ratio, noise=0.01 / 500)
    pose = estimate_relative_pose(
        x1,
        x2,
        max_error=threshold,
        options=RansacOptions(num_hypotheses=512),
        generator=torch.Generator().manual_seed(0),
    )
    assert pose.valid.all()
    error = sampson_distance(x1.double(), x2.double(), pose.E.double()).sqrt()
    assert error[pose.inliers].max() <= 1.001 * threshold
    recall = (pose.inliers & inlier).sum(dim=1) / inlier.sum(dim=1)
    assert (recall > 0.8).all()
    assert pose_errors(pose, views).max() < 0.2


def test_poses_are_accurate_under_noise_and_outliers():
    views, x1, x2, _ = make_problems(24, 200, 1)
    pose = estimate(x1, x2, make_samples(24, 200, 128))
    assert pose.valid.all()
    assert pose_errors(pose, views).median() < 1.0
    torch.testing.assert_close(pose.E, essential_from_pose(pose.R, pose.t))
    torch.testing.assert_close(pose.t.norm(dim=-1), torch.ones(24))


def test_local_optimisation_improves_the_pose():
    views, x1, x2, _ = make_problems(24, 200, 2)
    samples = make_samples(24, 200)
    coarse = estimate(x1, x2, samples, options=dataclasses.replace(OPTIONS, refinement_iterations=0))
    refined = estimate(x1, x2, samples)
    assert pose_errors(refined, views).mean() < 0.7 * pose_errors(coarse, views).mean()
    assert (refined.score >= coarse.score).all()


def test_float64_points_are_estimated_in_float64():
    views, x1, x2, _ = make_problems(6, 100, 3, inlier_ratio=0.8, noise=0.0, dtype=torch.float64)
    pose = estimate(x1, x2, make_samples(6, 100), max_error=1e-6)
    assert pose.R.dtype == torch.float64
    assert pose_errors(pose, views).max() < 1e-3


def test_the_float32_solver_is_available():
    views, x1, x2, _ = make_problems(6, 100, 4)
    pose = estimate(x1, x2, make_samples(6, 100), options=dataclasses.replace(OPTIONS, solver_dtype="float32"))
    assert pose_errors(pose, views).median() < 2.5


def test_weights_count_like_repeated_matches():
    """Inliers that are a minority of the slots win by their counts."""
    views, x1, x2, inlier = make_problems(6, 150, 5, inlier_ratio=0.25)
    weight = torch.where(inlier, 12.0, 1.0)
    pose = estimate(x1, x2, make_samples(6, 150, weight=weight), weight=weight)
    assert pose_errors(pose, views).max() < 4
    assert (pose.score > 0.3 * weight.sum(dim=1)).all()


def test_sampling_weights_choose_the_samples_and_leave_the_scores_alone():
    """At a fifth of inliers and few samples: luck without a hint, and a pose with one."""
    views, x1, x2, inlier = make_problems(20, 200, 22, inlier_ratio=0.2)
    few = RansacOptions(num_hypotheses=96, resample_rounds=0)

    def errors(**hint):
        pose = estimate(x1, x2, None, options=few, generator=torch.Generator().manual_seed(0), **hint)
        assert (pose.score <= pose.inliers.sum(dim=1)).all()
        return torch.where(pose.valid, pose_errors(pose, views), 180)

    assert errors().median() > 10
    assert errors(sampling_weight=inlier.float()).median() < 5
    quality = torch.rand(20, 200, generator=torch.Generator().manual_seed(1)) + 0.8 * inlier
    assert errors(sampling_weight=weights_of_order(quality)).median() < 8
    valid = inlier.clone()
    valid[:, ::2] = False
    masked = estimate(
        x1, x2, None, valid=valid, sampling_weight=torch.ones(20, 200), generator=torch.Generator().manual_seed(0)
    )
    assert not masked.inliers[~valid].any()


def test_an_early_stop_knows_of_no_sampling_weights():
    _, x1, x2, _ = make_problems(2, 40)
    with pytest.raises(InputError, match=r"^expected sampling_weight= without an early_stop, got both; [^\n]+$"):
        estimate(
            x1,
            x2,
            None,
            sampling_weight=torch.ones(2, 40),
            options=RansacOptions(early_stop=0.999),
            generator=torch.Generator(),
        )


# --- failures


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_than_five_slots_are_a_failure(count):
    generator = torch.Generator().manual_seed(0)
    x1, x2 = torch.rand(2, 3, count, 2, generator=generator)
    pose = estimate_relative_pose(x1, x2, max_error=MAX_ERROR, options=OPTIONS, generator=generator)
    assert pose.inliers.shape == (3, count)
    assert_failed(pose)


def test_a_hundred_thousand_matches_are_one_problem():
    views, x1, x2, inlier = make_problems(1, 100_000, 21, inlier_ratio=0.5)
    pose = estimate(x1, x2, make_samples(1, 100_000, 32, 21), options=RansacOptions(num_hypotheses=32))
    assert pose_errors(pose, views).item() < 0.5
    assert pose.inliers.sum() > 0.8 * inlier.sum()


def test_fewer_than_five_valid_matches_are_a_failure_beside_a_success():
    _, x1, x2, _ = make_problems(2, 60)
    valid = torch.ones(2, 60, dtype=torch.bool)
    valid[0, 4:] = False
    x1[0, 4:], x2[0, 10:] = torch.nan, torch.inf
    pose = estimate(x1, x2, make_samples(2, 60, weight=valid.float()), valid=valid)
    assert pose.valid.tolist() == [False, True]
    assert_failed(map_tensors(pose, lambda tensor: tensor[:1]))


@pytest.mark.parametrize("jitter", [0.0, 1e-9, 1e-7, 1e-5, 1e-4])
def test_nearly_identical_points_have_no_model(jitter):
    generator = torch.Generator().manual_seed(1)
    offsets = torch.randn(2, 4, 7, 2, generator=generator, dtype=torch.float64) * jitter
    for dtype in (torch.float32, torch.float64):
        x1, x2 = (0.1 + offsets[0]).to(dtype), (-0.2 + offsets[1]).to(dtype)
        pose = estimate(x1, x2, make_samples(4, 7))
        assert_failed(map_tensors(pose, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor))


@pytest.mark.parametrize("max_error", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_threshold_is_a_failure(max_error):
    _, x1, x2, _ = make_problems(2, 40)
    assert_failed(estimate(x1, x2, make_samples(2, 40), max_error=max_error))


def test_unusable_samples_are_a_failure():
    _, x1, x2, _ = make_problems(2, 40)
    assert_failed(estimate(x1, x2, torch.zeros(2, 8, 5, dtype=torch.int64)))
    assert_failed(estimate(x1, x2, torch.full((2, 8, 5), 99)))


def test_everything_is_finite_whatever_comes_in():
    generator = torch.Generator().manual_seed(2)
    x1, x2 = torch.randn(2, 40, 30, 2, generator=generator)
    scale = 10 ** (torch.rand(40, 1, 1, generator=generator) * 60 - 30)
    pose = estimate(x1 * scale, x2 / scale, make_samples(40, 30))
    for field in dataclasses.fields(RelativePose):
        value = getattr(pose, field.name)
        assert value.dtype == torch.bool or torch.isfinite(value).all(), field.name


def test_samples_or_a_generator_are_demanded():
    with pytest.raises(InputError, match="generator"):
        estimate_relative_pose(torch.rand(9, 2), torch.rand(9, 2), max_error=0.1, generator=None)


@pytest.mark.parametrize("farthest", [1e25, -1e35])
def test_one_absurd_point_leaves_the_others_alone(farthest):
    views, x1, x2, _ = make_problems(6, 100, 12)
    x1[:, 3], x2[:, 7] = farthest, farthest
    pose = estimate(x1, x2, make_samples(6, 100))
    assert pose.valid.all()
    assert pose_errors(pose, views).median() < 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_hypotheses": 0},
        {"num_scoring_points": 0},
        {"num_finalists": 0},
        {"num_refined": 0},
        {"tile": 0},
        {"tile": -4},
        {"refinement_iterations": -1},
        {"resample_rounds": -1},
        {"early_stop": 1.0},
    ],
)
def test_options_that_cannot_be_computed_are_refused_on_one_line(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=rf"^expected (an? )?{name}\b.*got {value!r}[^\n]*$"):
        RansacOptions(**wrong)


def test_the_least_options_are_accepted_and_more_refined_than_finalists_are_all_of_them():
    _, x1, x2, _ = make_problems(3, 60, 13)
    samples = make_samples(3, 60)
    counts = ("num_hypotheses", "num_scoring_points", "num_preselected", "num_finalists", "num_refined", "tile")
    none = ("resample_rounds", "num_resampled", "resamples", "refinement_iterations")
    least = RansacOptions(**dict.fromkeys(counts, 1), **dict.fromkeys(none, 0))
    assert estimate(x1, x2, samples[:, :1], options=least).R.shape == (3, 3, 3)
    few = dataclasses.replace(OPTIONS, num_finalists=3, num_refined=3)
    assert_same_bits(
        estimate(x1, x2, samples, options=few),
        estimate(x1, x2, samples, options=dataclasses.replace(few, num_refined=50)),
    )


@pytest.mark.parametrize("max_error_px", [0.0, -1.0, float("nan"), float("inf")])
def test_the_estimator_refuses_a_senseless_threshold(max_error_px):
    with pytest.raises(InputError, match=r"^expected max_error_px .*, got [^\n]+; try 1$"):
        RelativePoseEstimator(max_error_px)


# --- laws of the batch


@pytest.mark.parametrize("batch", [(), (2,), (1, 2), (0,), (0, 3)])
def test_any_batch_shape_gives_results_of_that_shape(batch):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, *batch, 20, 2, generator=generator)
    pose = estimate_relative_pose(points[0], points[1], max_error=0.1, options=OPTIONS, generator=generator)
    assert pose.R.shape == (*batch, 3, 3)
    assert pose.inliers.shape == (*batch, 20)
    assert pose.valid.shape == pose.score.shape == batch


@pytest.mark.parametrize("count", [33, 100, 301])
def test_problems_together_equal_single_calls_bit_for_bit(count):
    _, x1, x2, _ = make_problems(9, count, 6, inlier_ratio=0.6)
    weight = torch.randint(0, 3, (9, count), generator=torch.Generator().manual_seed(3)).float()
    max_error = torch.linspace(1 / 500, 3 / 500, 9)
    samples = make_samples(9, count, weight=weight)
    together = estimate(x1, x2, samples, weight=weight, max_error=max_error)
    assert together.valid.sum() >= 8
    for i in range(9):
        alone = estimate(x1[i], x2[i], samples[i], weight=weight[i], max_error=max_error[i])
        assert_same_bits(map_tensors(together, lambda tensor, i=i: tensor[i]), alone)
        neighbour = map_tensors(together, lambda tensor, i=i: tensor[i - 1])
        with pytest.raises(AssertionError):  # the test would notice results rolled by one problem
            assert_same_bits(neighbour, alone)


def test_permuting_problems_permutes_results():
    _, x1, x2, _ = make_problems(7, 90, 7)
    samples, order = make_samples(7, 90), torch.tensor([3, 6, 0, 2, 5, 1, 4])
    pose = estimate(x1, x2, samples)
    permuted = estimate(x1[order], x2[order], samples[order])
    assert_same_bits(permuted, map_tensors(pose, lambda tensor: tensor[order]))


@pytest.mark.parametrize("tile", [1, 7, 64, 100, 5000])
def test_the_tile_changes_no_bit(tile):
    _, x1, x2, _ = make_problems(3, 80, 8)
    samples = make_samples(3, 80, 24)
    options = dataclasses.replace(OPTIONS, resample_rounds=1, num_resampled=2, resamples=4)
    assert_same_bits(
        estimate(x1, x2, samples, options=options),
        estimate(x1, x2, samples, options=dataclasses.replace(options, tile=tile)),
    )


def test_padding_with_masked_matches_changes_nothing_but_rounding():
    _, x1, x2, _ = make_problems(6, 75, 9)
    samples = make_samples(6, 75)
    pose = estimate(x1, x2, samples)
    padding = torch.full((6, 22, 2), torch.nan)
    valid = torch.cat((torch.ones(6, 75), torch.zeros(6, 22)), dim=1).bool()
    padded = estimate(torch.cat((x1, padding), 1), torch.cat((x2, padding), 1), samples, valid=valid)
    torch.testing.assert_close(padded.R, pose.R, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded.t, pose.t, atol=1e-5, rtol=0)
    assert not padded.inliers[:, 75:].any()
    differ = padded.inliers[:, :75] != pose.inliers
    error = sampson_distance(x1, x2, pose.E).sqrt()
    assert ((error[differ] - MAX_ERROR).abs() < 1e-6).all()


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone():
    _, x1, x2, _ = make_problems(3, 60, 10)
    state = torch.random.get_rng_state()
    poses = [
        estimate_relative_pose(
            x1, x2, max_error=MAX_ERROR, options=OPTIONS, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_bits(poses[0], poses[1])
    with pytest.raises(AssertionError):
        assert_same_bits(poses[0], poses[2])


# --- the estimator of a training step


def test_the_estimator_is_ransac_with_the_threshold_of_the_cameras():
    views, x1, x2, _ = make_problems(6, 80, 11)
    K = torch.tensor([[400.0, 0, 300], [0, 600.0, 200], [0, 0, 1]]).expand(2, 3, 3, 3)
    x1, x2 = x1.unflatten(0, (2, 3)), x2.unflatten(0, (2, 3))
    valid = torch.ones(2, 3, 80, dtype=torch.bool)
    valid[..., ::9] = False
    weight = torch.ones(2, 3, 80) + torch.arange(80) % 2
    estimator = RelativePoseEstimator(2.0, OPTIONS)
    noise = torch.rand(2, 3, *estimator.noise_shape, generator=torch.Generator().manual_seed(0))
    x1 = torch.where(valid[..., None], x1, torch.nan)
    pose = estimator(Correspondences(x1 * 500, x2 * 500, x1, x2, weight, valid, K, K), noise)
    samples, _ = draw_minimal_samples(noise, weight * valid)
    expected = estimate(x1, x2, samples, valid=valid, weight=weight, max_error=torch.full((2, 3), 2 / 500))
    assert_same_bits(pose, expected)
    assert pose.valid.all()
    assert pose_errors(map_tensors(pose, lambda tensor: tensor.flatten(0, 1)), views).median() < 2
