"""Rewards that add over matches: each match has a value of its own under a geometry, the true one or another.

Where the reward of a draw is the mean value of its matches, its expectation over the draws needs no draws
(``rfp.policy.match_expectation``), be it the reward itself or a control variate beside another one. The same holds for
their sum over the number of slots, which pays for the number of matches, too, and not for their share alone.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.camera import normalized_threshold
from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import essential_from_pose
from rfp.records import Correspondences, InputError, TwoViewGeometry


@runtime_checkable
class AdditiveReward(Protocol):
    """A reward that sums the values of the matches, counted as often as each was drawn, and divides by their number.

    Or by the number of slots, whether there is a match in them or not. 0 without matches.
    """

    @property
    def per(self) -> Literal["match", "slot"]:
        """What the sum is divided by."""
        ...

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """``mean_match_value`` of each problem, the values those under the truth."""
        ...

    def match_values(self, correspondences: Correspondences, geometry: TwoViewGeometry) -> Float[Tensor, "*B M"]:
        """The value of each match under a geometry, finite; anything where it is masked. ``geometry`` broadcasts."""
        ...


def mean_match_value(
    values: Float[Tensor, "*B M"], correspondences: Correspondences, per: Literal["match", "slot"] = "match"
) -> Float[Tensor, "*B"]:
    """Σ count · value / Σ count, or over the M slots; 0 where there are no matches."""
    total = (values * correspondences.weight).sum(dim=-1)
    if per == "slot":
        return total / max(1, values.shape[-1])
    return total / correspondences.weight.sum(dim=-1).clamp_min(1.0)


def _check_per(per: str) -> None:
    if per not in ("match", "slot"):
        raise InputError(f"expected per='match' or per='slot', got {per!r}")


def _squared_distance(correspondences: Correspondences, geometry: TwoViewGeometry) -> Float[Tensor, "*B M"]:
    """Squared Sampson distances to a geometry, in normalised units."""
    E = essential_from_pose(geometry.R, geometry.t)
    batch = correspondences.x1.shape[:-2]
    return sampson_distance(correspondences.x1, correspondences.x2, E.expand(*batch, 3, 3))


def _squared_threshold(max_error_px: float, correspondences: Correspondences) -> Float[Tensor, "*B 1"]:
    """A pixel threshold, normalised by ½(1/f1 + 1/f2) and squared."""
    return normalized_threshold(max_error_px, correspondences.K1, correspondences.K2).square()[..., None]


@dataclass(frozen=True)
class EpipolarReward:
    """Share of drawn matches that agree with the *true* geometry: Sampson distance below ``max_error_px``.

    It ignores the estimate. No matches: zero. With ``wrong=-0.25`` it is DISK's reward (Tyszkiewicz et al. 2020,
    section 3.3: +1 for a right match, -0.25 for a wrong one), divided by the number of draws; with ``per="slot"``, too,
    it pays for the number of right matches as DISK's does.

    Raises:
        InputError: a threshold that is not above 0, or matches that are wrong below the distance of right ones.
    """

    max_error_px: float = 1.5
    wrong: float = 0.0
    """Value of a wrong match; a right one's is 1."""
    wrong_beyond_px: float | None = None
    """Only matches beyond this distance are wrong, and those in between worth nothing; None: all that are not right."""
    per: Literal["match", "slot"] = "match"
    """Over what the sum is taken: the matches drawn, or the slots for them."""

    def __post_init__(self):
        _check_per(self.per)
        beyond = self.max_error_px if self.wrong_beyond_px is None else self.wrong_beyond_px
        if not 0.0 < self.max_error_px <= beyond:
            raise InputError(
                "expected max_error_px above 0 and wrong_beyond_px not below it, got "
                f"{self.max_error_px} and {self.wrong_beyond_px}"
            )

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        return mean_match_value(self.match_values(correspondences, truth), correspondences, self.per)

    def match_values(self, correspondences: Correspondences, geometry: TwoViewGeometry) -> Float[Tensor, "*B M"]:
        """1 for a right match, ``wrong`` for a wrong one, 0 in between."""
        squared = _squared_distance(correspondences, geometry)
        right = squared < _squared_threshold(self.max_error_px, correspondences)
        if self.wrong_beyond_px is None:
            return torch.where(right, 1.0, self.wrong).to(squared.dtype)
        far = squared >= _squared_threshold(self.wrong_beyond_px, correspondences)
        return torch.where(right, 1.0, torch.where(far, self.wrong, 0.0)).to(squared.dtype)


@dataclass(frozen=True)
class SampsonReward:
    """Mean over the drawn matches of 1 / (1 + (e / scale)²), e the Sampson distance to the *true* geometry.

    1 for exact matches, ½ at the scale, towards 0 for wrong ones (the weight of Geman and McClure): it pays for
    accuracy below the threshold that ``EpipolarReward`` has, and falls without a step. It ignores the estimate.

    Raises:
        InputError: a scale that is not above 0.
    """

    scale_px: float = 1.0
    per: Literal["match", "slot"] = "match"
    """Over what the sum is taken: the matches drawn, or the slots for them."""

    def __post_init__(self):
        _check_per(self.per)
        if not self.scale_px > 0.0:
            raise InputError(f"expected scale_px above 0, got {self.scale_px}; 1 is usual")

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        return mean_match_value(self.match_values(correspondences, truth), correspondences, self.per)

    def match_values(self, correspondences: Correspondences, geometry: TwoViewGeometry) -> Float[Tensor, "*B M"]:
        """1 / (1 + (e / scale)²) of each match."""
        scale = _squared_threshold(self.scale_px, correspondences)
        return scale / (scale + _squared_distance(correspondences, geometry))
