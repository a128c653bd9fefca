"""What users can import is a reviewed list: a change to it shows up here. A rename keeps an alias for a while."""

import inspect
import subprocess
import sys

import pytest
import torch

import rfp

PUBLIC_NAMES = [
    "Correspondences",
    "DenseFeatures",
    "EpipolarReward",
    "FeatureNetwork",
    "Features",
    "InlierReward",
    "InputError",
    "JudgeOptions",
    "KeypointOptions",
    "MatchOptions",
    "Matcher",
    "PoseErrorReward",
    "PosedPair",
    "RansacOptions",
    "RelativePose",
    "Reward",
    "RolloutOptions",
    "TaskEstimator",
    "ThresholdReward",
    "Trainer",
    "TrainerOptions",
    "TwoViewGeometry",
    "compose",
    "data",
    "detect",
    "estimate_absolute_pose",
    "estimate_fundamental",
    "estimate_homography",
    "estimate_relative_pose",
    "evaluate",
    "five_point",
    "load_network",
    "load_pretrained",
    "mutual_nearest_neighbours",
    "pose_auc",
    "relative_pose_error",
    "rollout",
    "sample_descriptors",
    "save_weights",
    "surrogate_loss",
]


def test_the_public_names_are_the_reviewed_ones():
    assert sorted(rfp.__all__) == sorted(PUBLIC_NAMES)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_says_what_it_is(name):
    assert inspect.getdoc(getattr(rfp, name))


def test_what_draws_takes_a_generator_by_keyword_and_without_default():
    parameter = inspect.signature(rfp.rollout).parameters["generator"]
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.default is inspect.Parameter.empty


def test_estimation_without_generator_or_samples_is_an_error():
    """Nothing public falls back to a global random state."""
    points = torch.rand(1, 20, 2)
    with pytest.raises((TypeError, ValueError), match="generator"):
        rfp.estimate_relative_pose(points, points, max_error=0.01)


def test_importing_rfp_touches_no_random_state_and_starts_no_device():
    code = (
        "import torch; before = torch.get_rng_state(); import rfp; "
        "assert torch.equal(before, torch.get_rng_state()); assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
