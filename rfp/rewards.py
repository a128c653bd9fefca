"""What a task's result was worth. Each reward is a small frozen object: call it with (result, correspondences, truth).

Higher is better; always finite; a failed estimate gets the worst value that the reward can take, since dropping it
would bias the gradient. Not differentiable, and need not be: REINFORCE only reads the number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.camera import normalized_threshold
from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import essential_from_pose, relative_pose_error
from rfp.records import Correspondences, InputError, RelativePose, TwoViewGeometry


def pose_error(result: RelativePose, truth: TwoViewGeometry, *, fold_translation: bool) -> Float[Tensor, "*B"]:
    """The larger of the rotation and translation angles in radians, π where the estimate failed."""
    rotation, translation = relative_pose_error(
        result.R,
        result.t,
        truth.R.expand_as(result.R),
        truth.t.expand_as(result.t),
        fold_translation=fold_translation,
    )
    return torch.where(result.valid, torch.maximum(rotation, translation), math.pi)


@dataclass(frozen=True)
class PoseErrorReward:
    """Minus the soft-clipped pose error in units of the clip: -e / c up to c, -sqrt(e / c) beyond.

    e is the larger of the rotation and translation angles, the translation not folded: t and -t are 180° apart, since
    cheirality is part of the estimate. -1 at the clip, -2.68 at 180° and for a failure. (Reinforced Feature Points,
    section 3.4: max(angles), and sqrt(25 l) above 25°; here divided by 25°.)
    """

    soft_clip_deg: float = 25.0

    def __call__(
        self, result: RelativePose, correspondences: Correspondences, truth: TwoViewGeometry
    ) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        relative = pose_error(result, truth, fold_translation=False) / math.radians(self.soft_clip_deg)
        return -torch.where(relative > 1.0, relative.clamp_min(1.0).sqrt(), relative)


@dataclass(frozen=True)
class ThresholdReward:
    """The share of thresholds that the pose error stays below: a staircase from 1 (good) to 0 (failed)."""

    thresholds_deg: tuple[float, ...] = (5.0, 10.0, 20.0)

    def __call__(
        self, result: RelativePose, correspondences: Correspondences, truth: TwoViewGeometry
    ) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        error = pose_error(result, truth, fold_translation=False)
        below = [(error < math.radians(threshold)).to(error.dtype) for threshold in self.thresholds_deg]
        return torch.where(result.valid, torch.stack(below).mean(dim=0), 0.0)


@dataclass(frozen=True)
class InlierReward:
    """Inliers of the estimate, draws counted, divided by ``per``; zero where it failed. Needs no true pose."""

    per: float = 100.0

    def __call__(
        self, result: RelativePose, correspondences: Correspondences, truth: TwoViewGeometry
    ) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        inliers = torch.where(result.inliers, correspondences.weight, 0.0).sum(dim=-1)
        return torch.where(result.valid, inliers, 0.0) / self.per


@dataclass(frozen=True)
class EpipolarReward:
    """Share of drawn matches that agree with the *true* geometry: Sampson distance below ``max_error_px``.

    It ignores the estimate. No matches: zero. The pixel threshold becomes normalised by ½(1/f1 + 1/f2).
    """

    max_error_px: float = 1.5

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        E = essential_from_pose(truth.R, truth.t)
        batch = correspondences.x1.shape[:-2]
        squared = sampson_distance(correspondences.x1, correspondences.x2, E.expand(*batch, 3, 3))
        threshold = normalized_threshold(self.max_error_px, correspondences.K1, correspondences.K2)
        right = correspondences.valid & (squared < threshold.square()[..., None])
        total = correspondences.weight.sum(dim=-1)
        return torch.where(right, correspondences.weight, 0.0).sum(dim=-1) / total.clamp_min(1.0)


def compose(
    terms: Sequence[tuple[float, Callable[..., Float[Tensor, "*B"]]]],
) -> Callable[..., Float[Tensor, "*B"]]:
    """The weighted sum of rewards as one reward.

    >>> reward = compose([(1.0, PoseErrorReward()), (0.1, InlierReward())])

    Raises:
        InputError: no terms.
    """
    if not terms:
        raise InputError("expected at least one (weight, reward) term, got none")

    def composed(result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        first, *others = [weight * reward(result, correspondences, truth) for weight, reward in terms]
        return sum(others, start=first)

    return composed


RewardName = Literal["pose_error", "threshold", "inliers", "epipolar"]
REWARDS: dict[RewardName, Callable[..., Float[Tensor, "*B"]]] = {
    "pose_error": PoseErrorReward(),
    "threshold": ThresholdReward(),
    "inliers": InlierReward(),
    "epipolar": EpipolarReward(),
}
"""Each reward at its defaults by the name that options and the command line use."""
