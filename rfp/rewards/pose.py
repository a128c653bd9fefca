"""Rewards by the error of an estimated relative pose, and by the inliers that it found."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.pose import relative_pose_error
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
class AccuracyReward:
    """The mean over thresholds of max(0, 1 - e / threshold), from 1 for the true pose to 0 for a failure.

    Its mean over pairs is the area under the curve of accuracy over error up to each threshold, which is what is
    reported as AUC, but for the trapezoid's 1 / (2N). Errors beyond the largest threshold are all alike.

    Raises:
        InputError: no thresholds, or one that is not above 0.
    """

    thresholds_deg: tuple[float, ...] = (5.0, 10.0, 20.0)

    def __post_init__(self):
        if not self.thresholds_deg or min(self.thresholds_deg) <= 0.0:
            raise InputError(f"expected thresholds above 0 degrees, got {self.thresholds_deg}; 5, 10 and 20 are usual")

    def __call__(
        self, result: RelativePose, correspondences: Correspondences, truth: TwoViewGeometry
    ) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        error = pose_error(result, truth, fold_translation=False)
        accuracy = [(1.0 - error / math.radians(threshold)).clamp_min(0.0) for threshold in self.thresholds_deg]
        return torch.where(result.valid, torch.stack(accuracy).mean(dim=0), 0.0)


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
