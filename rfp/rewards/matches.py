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
from rfp.geometry.depth import inverse_depth_at, transferred_points
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


@dataclass(frozen=True)
class ReprojectionReward:
    """Mean over the drawn matches of (1 - (e / c)²)² where e < c, else 0, e the distance to where the *true* depth is.

    e² is the mean of two squares: of the distance between point 2 and point 1 carried to image 2 by its depth and the
    true pose, and the other way round. Unlike the distance to an epipolar line it tells a match apart from all others
    along the line, and a hidden point from what hides it. So a match beyond the cutoff c is wrong and worth nothing
    (the weight is Tukey's): near a key point without a counterpart there is nothing to be learned. A match one of whose
    depths is unknown is worth nothing, too. It ignores the estimate.

    Raises:
        InputError: a cutoff that is not above 0; when called, pairs without depth.
    """

    cutoff_px: float = 1.5
    per: Literal["match", "slot"] = "match"
    """Over what the sum is taken: the matches drawn, or the slots for them."""

    def __post_init__(self):
        _check_per(self.per)
        if not self.cutoff_px > 0.0:
            raise InputError(f"expected cutoff_px above 0, got {self.cutoff_px}; 1.5 is usual")

    def __call__(self, result: Any, correspondences: Correspondences, truth: TwoViewGeometry) -> Float[Tensor, "*B"]:
        """The reward of each problem."""
        return mean_match_value(self.match_values(correspondences, truth), correspondences, self.per)

    def match_values(self, correspondences: Correspondences, geometry: TwoViewGeometry) -> Float[Tensor, "*B M"]:
        """(1 - (e / c)²)² of each match, 0 beyond c, where a depth is unknown or where a point lies behind a camera."""
        if geometry.depth1 is None or geometry.depth2 is None:
            raise InputError(
                "the reprojection reward expected pairs with depth (rendered scenes, photographs in relief, or your "
                "own with depth1 and depth2), got some without; choose a reward by the epipolar geometry, such as "
                "sampson, and control.geometry='true'"
            )
        R, t = geometry.R, geometry.t
        back = -(R.mT * t[..., None, :]).sum(dim=-1)
        one = (correspondences.xy1_px, correspondences.x1, geometry.depth1)
        two = (correspondences.xy2_px, correspondences.x2, geometry.depth2)
        squared, seen = torch.zeros_like(correspondences.x1[..., 0]), correspondences.valid
        for (xy_px, x, depth), (_, found, _), rotation, translation in ((one, two, R, t), (two, one, R.mT, back)):
            inverse, known = inverse_depth_at(depth, xy_px)
            there, inverse_there = transferred_points(x, inverse, rotation, translation)
            seen = seen & known & (inverse_there > 0)
            squared = squared + 0.5 * (there - found).square().sum(dim=-1)
        share = torch.where(seen, squared / _squared_threshold(self.cutoff_px, correspondences), 1.0)
        return (1.0 - share).clamp_min(0.0).square()
