"""REINFORCE: rewards and log-probabilities in, a surrogate loss out."""

from rfp.reinforce.baselines import BASELINES, OF_REFERENCE, Baseline, nested_advantages
from rfp.reinforce.control_variate import coefficient_of_others
from rfp.reinforce.diagnostics import draw_statistics
from rfp.reinforce.keypoint_credit import own_match_surrogate
from rfp.reinforce.keypoint_utility import log_utility
from rfp.reinforce.reward_memory import RewardMemory
from rfp.reinforce.surrogate import surrogate_loss, surrogate_per_pair

__all__ = [
    "BASELINES",
    "OF_REFERENCE",
    "Baseline",
    "RewardMemory",
    "coefficient_of_others",
    "draw_statistics",
    "log_utility",
    "nested_advantages",
    "own_match_surrogate",
    "surrogate_loss",
    "surrogate_per_pair",
]
