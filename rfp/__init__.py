"""Reinforced feature points: train local features on the task they are used for, on the device, for any detector."""

from rfp import data
from rfp.evaluation import evaluate, pose_auc
from rfp.geometry.five_point import five_point
from rfp.geometry.pose import relative_pose_error
from rfp.models.pretrained import load_network, load_pretrained, save_weights
from rfp.models.sampling import sample_descriptors
from rfp.policy import KeypointOptions, MatchOptions, mutual_nearest_neighbours
from rfp.records import (
    Correspondences,
    DenseFeatures,
    Features,
    InputError,
    PosedPair,
    RelativePose,
    TwoViewGeometry,
)
from rfp.reinforce import surrogate_loss
from rfp.rewards import EpipolarReward, InlierReward, PoseErrorReward, ThresholdReward, compose
from rfp.robust.absolute_pose import estimate_absolute_pose
from rfp.robust.fundamental import estimate_fundamental
from rfp.robust.homography import estimate_homography
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import estimate_relative_pose
from rfp.rollout import FeatureNetwork, Matcher, Reward, RolloutOptions, TaskEstimator, detect, rollout
from rfp.training import JudgeOptions, Trainer, TrainerOptions

__all__ = [
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
