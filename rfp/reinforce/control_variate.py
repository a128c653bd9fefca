"""A control variate whose expectation is known: a reward a that adds over matches, beside any reward r.

E[r ∇log P(M)] = E[(r - c a) ∇log P(M)] + c ∇E[a], and the last term needs no draws. What is left to chance is r - c a:
nothing at all where r = a and c = 1, and less than r wherever a tells how good a draw of matches is.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.records import MatchExpectation
from rfp.reinforce.baselines import Baseline, match_advantages

Coefficient = float | Float[Tensor, "*B S"]


def controlled_value(
    reward: Float[Tensor, "*B S T"], control: MatchExpectation, coefficient: Coefficient
) -> Float[Tensor, "*B S"]:
    """mean_t (r - c a) + c E[a | X]: with the mean of r itself as expectation, and less of the matches' chance."""
    expected = control.expected.detach()
    residual = (reward.unsqueeze(-2) - _per_table(coefficient) * control.sampled).movedim(-2, 0)
    return _own(residual).mean(dim=-1) + coefficient * expected.mean(dim=-1)


def controlled_match_advantages(
    reward: Float[Tensor, "*B S T"],
    control: MatchExpectation,
    coefficient: Coefficient,
    baseline: Baseline,
    *,
    reference: Float[Tensor, "*B"] | None = None,
) -> Float[Tensor, "*B S T"]:
    """The advantages of the draws of matches by r - c a, less the same baseline of it.

    Where the values of the matches were made by a draw (V = T), the advantage of draw t has *all* the draws that it is
    compared with under set t: under their own sets they would depend on draw t.
    """
    residual = (reward.unsqueeze(-2) - _per_table(coefficient) * control.sampled).movedim(-2, 0)
    if baseline == "all_others":
        # With the draw's own c for all of them: the others' c depends on this draw.
        mean = reward.mean(dim=(-2, -1))[..., None, None] - _per_set(coefficient) * control.sampled.mean(
            dim=(-3, -1)
        ).unsqueeze(-2)
        number = reward.shape[-2] * reward.shape[-1]
        return _own((residual - mean.movedim(-1, 0).unsqueeze(-1)) * (number / (number - 1)))
    if reference is not None:
        expected = control.expected.detach()
        reference = (reference[..., None, None] - _per_set(coefficient) * expected).movedim(-1, 0)
    return _own(match_advantages(residual, baseline, reference=reference))


def coefficient_of_others(
    reward: Float[Tensor, "*batch B S T"],
    control: MatchExpectation,
    *,
    valid: Bool[Tensor, "*batch B"] | None = None,
) -> Float[Tensor, "*batch B S"]:
    """c = Cov(r, a) / Var(a) given the key points, for each draw of key points from all the others of the batch.

    The others are of the same pair and of the other pairs (one number for all of them: a is the same kind of thing in
    every pair). A draw's own matches have no part in its c, which keeps the gradient unbiased. 0 where the others'
    matches are all alike, and where there are no others.

    Args:
        valid: False leaves out a pair.
    """
    num_keypoint_draws, num_match_draws = reward.shape[-2:]
    deviation = _own((control.sampled - control.expected.detach().unsqueeze(-1)).movedim(-2, 0))
    deviation = deviation.expand_as(reward)
    baseline: Baseline = "leave_one_out" if num_match_draws > 1 else "all_others" if num_keypoint_draws > 1 else "none"
    covariance = (match_advantages(reward, baseline) * deviation).sum(dim=-1)
    variance = deviation.square().sum(dim=-1)
    if valid is not None:
        covariance = torch.where(valid[..., None], covariance, 0.0)
        variance = torch.where(valid[..., None], variance, 0.0)
    of_others, spread = (
        value.sum(dim=(-2, -1), keepdim=True) - value for value in (covariance.detach(), variance.detach())
    )
    usable = spread > 1e-12
    return torch.where(usable, of_others / torch.where(usable, spread, 1.0), 0.0)


def _per_set(coefficient: Coefficient) -> float | Tensor:
    return coefficient[..., None] if isinstance(coefficient, Tensor) else coefficient


def _per_table(coefficient: Coefficient) -> float | Tensor:
    return coefficient[..., None, None] if isinstance(coefficient, Tensor) else coefficient


def _own(table: Float[Tensor, "V *B S T"]) -> Float[Tensor, "*B S T"]:
    """Of each draw the row under its own set of values, or the only row."""
    return table[0] if table.shape[0] == 1 else table.diagonal(dim1=0, dim2=-1)
