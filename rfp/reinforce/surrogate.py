"""The surrogate loss whose gradient is the REINFORCE estimate of the gradient of the expected reward."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.records import MatchExpectation
from rfp.reinforce.baselines import (
    Baseline,
    check_baseline,
    keypoint_advantages,
    nested_advantages,
)
from rfp.reinforce.control_variate import Coefficient, controlled_match_advantages, controlled_value


def surrogate_per_pair(
    reward: Float[Tensor, "*B S T"],
    log_prob_keypoints: Float[Tensor, "*B S"],
    log_prob_matches: Float[Tensor, "*B S T"],
    *,
    baseline: Baseline = "leave_one_out",
    reference: Float[Tensor, "*B"] | None = None,
    control: MatchExpectation | None = None,
    coefficient: Coefficient = 1.0,
    of_keypoints: Float[Tensor, "*B"] | None = None,
    of_matches: Float[Tensor, "*B"] | None = None,
    keypoint_weight: float = 1.0,
    match_weight: float = 1.0,
) -> Float[Tensor, "*B"]:
    """The surrogate of each pair; see ``surrogate_loss``."""
    reward = reward.detach()
    if control is None:
        advantage_keypoints, advantage_matches = nested_advantages(reward, baseline, reference=reference)
        of_expectation = torch.zeros_like(reward[..., 0, 0])
    else:
        check_baseline(baseline, *reward.shape[-2:])
        value = controlled_value(reward, control, coefficient)
        advantage_keypoints = keypoint_advantages(value, baseline, reference=reference)
        advantage_matches = controlled_match_advantages(reward, control, coefficient, baseline, reference=reference)
        # The mean as baseline shrinks the drawn part; the exact one is shrunk alike, for the sum to keep its direction.
        shrunk = 1.0 - 1.0 / reward.shape[-1] if baseline == "mean" else 1.0
        of_expectation = -shrunk * (coefficient * control.expected.mean(dim=-1)).mean(dim=-1)
    # ∇E[r] = E_X[ E_M[r] ∇log P(X) ] + E_X E_M[ r ∇log P(M | X) ]  (eq. 4 of the paper), here with a minus, since
    # an optimiser goes down: the mean over draws of -A ∇log P is the gradient of the mean of -A log P.
    if of_keypoints is None:
        of_keypoints = -(advantage_keypoints * log_prob_keypoints).mean(dim=-1)
    if of_matches is None:
        of_matches = -(advantage_matches * log_prob_matches).mean(dim=(-2, -1)) + of_expectation
    return keypoint_weight * of_keypoints + match_weight * of_matches


def surrogate_loss(
    reward: Float[Tensor, "*B S T"],
    log_prob_keypoints: Float[Tensor, "*B S"],
    log_prob_matches: Float[Tensor, "*B S T"],
    *,
    baseline: Baseline = "leave_one_out",
    reference: Float[Tensor, "*B"] | None = None,
    control: MatchExpectation | None = None,
    coefficient: Coefficient = 1.0,
    valid: Bool[Tensor, "*B"] | None = None,
    weight: Float[Tensor, "*B"] | None = None,
    of_keypoints: Float[Tensor, "*B"] | None = None,
    of_matches: Float[Tensor, "*B"] | None = None,
    keypoint_weight: float = 1.0,
    match_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """The loss whose gradient is an estimate of -∇E[reward], averaged over the valid pairs.

    Its value means nothing; its gradient does. With every baseline but ``"mean"`` it is unbiased for the policy with
    its support held fixed. (Reinforced Feature Points, eq. 4; Williams 1992.)

    Args:
        reward: Higher is better; detached here. S draws of key points, T draws of matches for each.
        log_prob_keypoints: log P(X, X′) of each draw of key points, of both images.
        log_prob_matches: log P(M | X, X′) of each draw of matches.
        baseline: See ``nested_advantages``.
        reference: What the baselines "moving_average" and "self_critical" subtract.
        control: A reward that adds over matches, its expectation known; see ``rfp.reinforce.control_variate``.
        coefficient: c of it, one for all or one for each draw of key points, which must not depend on that draw.
        valid: False leaves a pair out with all its draws (unusable *input*; a failed estimate takes part).
        weight: Factor on each pair (1 / the spread of its earlier rewards, say). It must not depend on these draws, and
            makes pairs count differently without a bias in the direction of any of them.
        of_keypoints: The detector's term of each pair, in place of the one by the rewards of whole draws.
        of_matches: The descriptor's term of each pair, in place of the one by rewards and control.
        keypoint_weight: Factor on the detector's term.
        match_weight: Factor on the descriptor's term.

    >>> import torch
    >>> log_p = torch.zeros(1, 2, requires_grad=True)
    >>> reward = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    >>> surrogate_loss(reward, log_p, torch.zeros(1, 2, 2)).backward()
    >>> log_p.grad
    tensor([[-0.5000,  0.5000]])
    """
    per_pair = surrogate_per_pair(
        reward,
        log_prob_keypoints,
        log_prob_matches,
        baseline=baseline,
        reference=reference,
        control=control,
        coefficient=coefficient,
        of_keypoints=of_keypoints,
        of_matches=of_matches,
        keypoint_weight=keypoint_weight,
        match_weight=match_weight,
    )
    if weight is not None:
        per_pair = per_pair * weight.detach()
    if valid is None:
        return per_pair.mean()
    return torch.where(valid, per_pair, 0.0).sum() / valid.sum().clamp_min(1)
