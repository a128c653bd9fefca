"""Whether the inliers of a model are evidence for it: neither chance nor a simpler model may explain them.

Judged *a contrario*: the number of false alarms is the number of models that could have been tried times the chance of
each to have so many inliers. L. Moisan and B. Stival, A probabilistic criterion to detect rigid point matches between
two images and estimate the fundamental matrix, IJCV 2004.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_FALSE_ALARMS = 1.0
"""Models as good as the one found that chance gives a problem, at most. The bound is loose: in 1536 scenes of a plane
and wrong matches the number came down to 2."""


def is_determined(
    inliers: Bool[Tensor, "P N"],
    usable: Bool[Tensor, "P N"],
    on_plane: Bool[Tensor, "P N"],
    chance: Float[Tensor, "P"],
) -> Bool[Tensor, "P"]:
    """Whether there are more inliers than chance gives, among all matches and among those beside the dominant plane.

    Two binomial tests, both of which must be passed. Of n matches m are inliers; beside the plane they are b and a:

    - m - 7 of n - 7 must be significant among ``3 C(n, 7)`` models: seven matches fit an F whatever they are;
    - a - 2 of b - 2 must be among ``3 C(b, 2)``: given the plane, two more matches fit an epipole whatever they are.

    Any five inliers pass for a plane, as then both tests are about the same two matches.

    Args:
        chance: of a wrong match to be an inlier.
    """
    total, agreeing = usable.sum(dim=1), inliers.sum(dim=1)
    beside = total - (on_plane & usable).sum(dim=1).clamp_min(5)
    agreeing_beside = agreeing - (on_plane & inliers).sum(dim=1).clamp_min(5)
    return _significant(agreeing, total, 7, chance) & _significant(agreeing_beside, beside, 2, chance)


def translation_is_determined(
    inliers: Bool[Tensor, "P N"],
    usable: Bool[Tensor, "P N"],
    moving: Bool[Tensor, "P N"],
    chance: Float[Tensor, "P"],
) -> Bool[Tensor, "P"]:
    """Whether more inliers are left than chance gives, beside the matches that a relative pose's rotation explains.

    Of b matches that it does not explain, a are inliers: a - 2 of b - 2 must be significant among ``3 C(b, 2)`` models,
    since given the rotation two matches fit a translation whatever they are. Any two pass for explained.

    Args:
        moving: which matches the rotation alone does not explain.
        chance: of a wrong match to be an inlier.
    """
    explained = usable & ~moving
    beside = usable.sum(dim=1) - explained.sum(dim=1).clamp_min(2)
    agreeing = inliers.sum(dim=1) - (explained & inliers).sum(dim=1).clamp_min(2)
    return _significant(agreeing, beside, 2, chance)


def _significant(agreeing: Tensor, total: Tensor, fitted: int, chance: Tensor) -> Tensor:
    """Whether ``agreeing`` of ``total`` matches, ``fitted`` of which agree by construction, are no accident.

    ``log 3 C(n, s) - (n - s) KL(k / (n - s) ‖ p) < log ε``, with k those beyond the fitted s: Chernoff's bound of the
    binomial tail.
    """
    total, agreeing, chance = total.double(), agreeing.double(), chance.double().clamp(1e-12, 1 - 1e-12)
    trials, successes = (total - fitted).clamp_min(1), (agreeing - fitted).clamp_min(0)
    share = (successes / trials).clamp_max(1)
    divergence = torch.xlogy(share, share / chance) + torch.xlogy(1 - share, (1 - share) / (1 - chance))
    n = total.clamp_min(fitted)
    log_models = torch.lgamma(n + 1) - torch.lgamma(n - fitted + 1) + (math.log(3) - math.lgamma(fitted + 1))
    return (share > chance) & (log_models - trials * divergence < math.log(_FALSE_ALARMS))
