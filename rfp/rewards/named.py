"""Rewards by name, as options and the command line know them, and their weighted sums."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from rfp.records import Correspondences, InputError, TwoViewGeometry
from rfp.rewards.matches import AdditiveReward, EpipolarReward, ReprojectionReward, SampsonReward
from rfp.rewards.pose import AccuracyReward, InlierReward, PoseErrorReward, ThresholdReward

AdditiveRewardName = Literal[
    "epipolar", "disk", "disk_count", "sampson", "sampson_count", "reprojection", "reprojection_count"
]
ADDITIVE_REWARDS: dict[AdditiveRewardName, AdditiveReward] = {
    "epipolar": EpipolarReward(),
    "disk": EpipolarReward(wrong=-0.25),
    "disk_count": EpipolarReward(wrong=-0.25, wrong_beyond_px=4.0, per="slot"),
    "sampson": SampsonReward(),
    "sampson_count": SampsonReward(scale_px=0.5, per="slot"),
    "reprojection": ReprojectionReward(),
    "reprojection_count": ReprojectionReward(per="slot"),
}
"""Rewards that add over matches, at their defaults, by the name that options and the command line use."""
RewardPerSlotName = Literal["disk_count", "sampson_count", "reprojection_count"]
"""Those that pay for the number of right matches."""
BY_DEPTH: tuple[str, ...] = ("reprojection", "reprojection_count")
"""Those that need pairs with depth."""
RewardName = Literal["pose_error", "accuracy", "threshold", "inliers", AdditiveRewardName]
REWARDS: dict[RewardName, Callable[..., Float[Tensor, "*B"]]] = {
    "pose_error": PoseErrorReward(),
    "accuracy": AccuracyReward(),
    "threshold": ThresholdReward(),
    "inliers": InlierReward(),
    **ADDITIVE_REWARDS,
}
"""All of them, those that judge the estimate first."""


@dataclass(frozen=True, repr=False)
class WeightedSum:
    """The weighted sum of rewards as one reward; ``compose`` makes it."""

    terms: tuple[tuple[float, Callable[..., Float[Tensor, "*B"]]], ...]

    def __repr__(self) -> str:
        # Of functions the names: a run resumes only with the reward that it began with.
        terms = [f"({weight}, {callable_name(reward)})" for weight, reward in self.terms]
        return f"WeightedSum(terms=({', '.join(terms)}{',' if len(terms) == 1 else ''}))"

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        first, *others = [weight * reward(result, correspondences, truth) for weight, reward in self.terms]
        return sum(others, start=first)


@dataclass(frozen=True, repr=False)
class AdditiveSum(WeightedSum):
    """The weighted sum of rewards that add over matches and divide by the same number: it adds over matches, too."""

    terms: tuple[tuple[float, AdditiveReward], ...]

    @property
    def per(self) -> Literal["match", "slot"]:
        """What the sums are divided by."""
        return self.terms[0][1].per

    def match_values(self, correspondences: Correspondences, geometry: TwoViewGeometry) -> Float[Tensor, "*B M"]:
        """The weighted sum of each match's values."""
        first, *others = [weight * reward.match_values(correspondences, geometry) for weight, reward in self.terms]
        return sum(others, start=first)


def compose(
    terms: Sequence[tuple[float, Callable[..., Float[Tensor, "*B"]]]],
) -> Callable[..., Float[Tensor, "*B"]]:
    """The weighted sum of rewards as one reward; it adds over matches where all of them do, per the same number.

    >>> reward = compose([(1.0, PoseErrorReward()), (0.1, InlierReward())])

    Raises:
        InputError: no terms, a weight that is not finite, or none but zeros.
    """
    if not terms:
        raise InputError("expected at least one (weight, reward) term, got none")
    weights = [weight for weight, _ in terms]
    if not all(map(math.isfinite, weights)) or not any(weights):
        raise InputError(f"expected finite weights, one of them other than 0, got {weights}: that teaches nothing")
    additive = [(weight, reward) for weight, reward in terms if isinstance(reward, AdditiveReward)]
    if len(additive) == len(terms) and len({reward.per for _, reward in additive}) == 1:
        return AdditiveSum(tuple(additive))
    return WeightedSum(tuple(terms))


def callable_name(black_box: Any) -> str:
    """What tells a reward or an estimator from another one, the same in every process: no address in memory.

    Its representation where its class defines one (a dataclass has one), else the name of the function or class.

    >>> callable_name(PoseErrorReward()), callable_name(math.fsum)
    ('PoseErrorReward(soft_clip_deg=25.0)', 'math.fsum')
    """
    if isinstance(black_box, functools.partial):
        arguments = [*map(repr, black_box.args), *(f"{name}={value!r}" for name, value in black_box.keywords.items())]
        return f"partial({', '.join([callable_name(black_box.func), *arguments])})"
    kind = type(black_box)
    named = getattr(black_box, "__qualname__", None)
    if named is not None:
        return f"{black_box.__module__}.{named}"
    text = repr(black_box) if kind.__repr__ is not object.__repr__ else kind.__qualname__
    return kind.__qualname__ if " at 0x" in text else text


def reward_of_terms(terms: Sequence[str]) -> Callable[..., Float[Tensor, "*B"]]:
    """The weighted sum that ``("pose_error=1", "epipolar=0.3")`` stands for.

    >>> reward_of_terms(("pose_error=1", "inliers=0.1")).terms[1]
    (0.1, InlierReward(per=100.0))

    Raises:
        InputError: a term that is not NAME=WEIGHT with a reward's name and a finite weight; no terms.
    """
    parsed = []
    for term in terms:
        name, _, weight = term.partition("=")
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if name not in REWARDS or not math.isfinite(value):
            raise InputError(f"expected a term NAME=WEIGHT with NAME of {', '.join(REWARDS)}, got {term!r}")
        parsed.append((value, REWARDS[name]))
    return compose(parsed)
