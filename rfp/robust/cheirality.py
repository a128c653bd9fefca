"""Cheirality of many candidate poses at once: which of four twins sees the matches in front of both cameras.

A plane (or a scene close to one) fits two essential matrices equally well. Only the signs of the depths tell them
apart, so they take part in the score of a candidate rather than in the choice among the twins of the winner alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.geometry.essential import twisted_poses
from rfp.geometry.pose import essential_from_pose
from rfp.robust.scoring import MatchMonomials, msac_gains, table_product


def choose_twins(
    R: Float[Tensor, "P C 3 3"], t: Float[Tensor, "P C 3"], matches: MatchMonomials
) -> tuple[Float[Tensor, "P C 3 3"], Float[Tensor, "P C 3"], Float[Tensor, "P C N"]]:
    """The twin of each pose with most of its MSAC score in front of both cameras, and its gains ``wᵢ (1 - eᵢ²)``.

    The gain is zero for outliers and for matches behind a camera; a match with a positive gain is an inlier. The signs
    are strict where twins are compared. Where gains are counted, a wrong sign is forgiven when turning a ray by the
    threshold would mend it: nearly parallel rays, those of far points, have the sign of their noise.

    Args:
        R: with ‖t‖ = 1, any of the four twins ``(R, ±t)``, ``(R′, ±t)`` of an essential matrix.
    """
    gain = msac_gains(essential_from_pose(R, t).flatten(-2).transpose(1, 2), matches)
    depths = _depths_of_twins(R, t, matches)
    best = torch.stack([vote for pair in depths for vote in _votes(*pair, gain)], dim=-1).argmax(dim=-1)
    sign = (1 - 2 * (best % 2)).to(gain.dtype)[..., None]  # the twins alternate between t and -t
    depth1, depth2 = (torch.where((best < 2)[..., None], *pair).mul_(sign) for pair in zip(*depths))
    tolerance1, tolerance2 = _tolerances(matches)
    gain = _where_positive(torch.minimum(depth1.add_(tolerance1), depth2.add_(tolerance2)), gain)
    Rs, ts = twisted_poses(R, t)
    chosen_R = Rs.gather(2, best[..., None, None, None].expand(-1, -1, 1, 3, 3))[:, :, 0]
    chosen_t = ts.gather(2, best[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
    return chosen_R, chosen_t, gain


def _votes(depth1: Tensor, depth2: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The gains of the matches in front of both cameras, and of those behind both, which -t puts in front."""
    in_front = _where_positive(torch.minimum(depth1, depth2), gain)
    behind = _where_positive(torch.maximum(depth1, depth2).neg_(), gain)
    return in_front.sum(dim=-1), behind.sum(dim=-1)


def _where_positive(depth: Tensor, gain: Tensor) -> Tensor:
    """The gain where the depth is positive and 0 elsewhere, into the depth: a fraction of the time of ``where``."""
    return depth.sign_().clamp_min_(0).mul_(gain)


def _depths_of_twins(R: Tensor, t: Tensor, matches: MatchMonomials) -> list[tuple[Tensor, Tensor]]:
    """Scaled depths in both cameras (see ``scaled_depths``) for (R, t) and (R′, t); -t turns both signs.

    With the rays ``a = R (x1, 1)`` and ``b = (x2, 1)`` they are ``(a·b)(b·t) - (b·b)(a·t)`` and
    ``(a·a)(b·t) - (a·b)(a·t)``. For R′ = (2 t tᵀ - I) R only a·b is another, ``2 (a·t)(b·t) - a·b``.
    """
    aa, bb = (squared[:, None] for squared in _squared_lengths(matches))
    ab = table_product(R.flatten(-2).transpose(1, 2), matches.epipolar)
    at = table_product((t[..., :, None] * R).sum(dim=-2).transpose(1, 2), matches.ray1)
    bt = table_product(t.transpose(1, 2), matches.ray2)
    minus_bb_at, aa_bt = at * -bb, bt * aa
    ab_twisted = (at * bt).mul_(2).sub_(ab)
    return [(torch.addcmul(minus_bb_at, dot, bt), torch.addcmul(aa_bt, dot, at, value=-1)) for dot in (ab, ab_twisted)]


def _squared_lengths(matches: MatchMonomials) -> tuple[Tensor, Tensor]:
    return matches.ray1.square().sum(dim=1), matches.ray2.square().sum(dim=1)


def _tolerances(matches: MatchMonomials) -> tuple[Tensor, Tensor]:
    """Scaled depths (P, 1, N) of rays that the threshold, as an angle, separates, with the baseline across them."""
    aa, bb = _squared_lengths(matches)
    angle = matches.max_error[:, None]
    return (angle * aa.sqrt() * bb)[:, None], (angle * aa * bb.sqrt())[:, None]
