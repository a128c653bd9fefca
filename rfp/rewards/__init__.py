"""What a task's result was worth. Each reward is a small frozen object: call it with (result, correspondences, truth).

Higher is better; always finite; a failed estimate gets the worst value that the reward can take, since dropping it
would bias the gradient. Not differentiable, and need not be: REINFORCE only reads the number.
"""

from rfp.rewards.host import HostReward, host_reward
from rfp.rewards.matches import AdditiveReward, EpipolarReward, ReprojectionReward, SampsonReward, mean_match_value
from rfp.rewards.named import (
    ADDITIVE_REWARDS,
    BY_DEPTH,
    REWARDS,
    AdditiveRewardName,
    RewardName,
    RewardPerSlotName,
    WeightedSum,
    callable_name,
    compose,
    reward_of_terms,
)
from rfp.rewards.pose import AccuracyReward, InlierReward, PoseErrorReward, ThresholdReward, pose_error

__all__ = [
    "ADDITIVE_REWARDS",
    "BY_DEPTH",
    "REWARDS",
    "AccuracyReward",
    "AdditiveReward",
    "AdditiveRewardName",
    "EpipolarReward",
    "HostReward",
    "InlierReward",
    "PoseErrorReward",
    "ReprojectionReward",
    "RewardName",
    "RewardPerSlotName",
    "SampsonReward",
    "ThresholdReward",
    "WeightedSum",
    "callable_name",
    "compose",
    "host_reward",
    "mean_match_value",
    "pose_error",
    "reward_of_terms",
]
