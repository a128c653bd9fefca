"""The surrogate loss whose gradient is the REINFORCE estimate of the gradient of the expected reward."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.reinforce.baselines import Baseline, nested_advantages


def surrogate_per_pair(
    reward: Float[Tensor, "*B S T"],
    log_prob_keypoints: Float[Tensor, "*B S"],
    log_prob_matches: Float[Tensor, "*B S T"],
    *,
    baseline: Baseline = "leave_one_out",
    keypoint_weight: float = 1.0,
    match_weight: float = 1.0,
) -> Float[Tensor, "*B"]:
    """The surrogate of each pair; see ``surrogate_loss``."""
    advantage_keypoints, advantage_matches = nested_advantages(reward.detach(), baseline)
    # ∇E[r] = E_X[ E_M[r] ∇log P(X) ] + E_X E_M[ r ∇log P(M | X) ]  (eq. 4 of the paper), here with a minus, since
    # an optimiser goes down: the mean over draws of -A ∇log P is the gradient of the mean of -A log P.
    of_keypoints = -(advantage_keypoints * log_prob_keypoints).mean(dim=-1)
    of_matches = -(advantage_matches * log_prob_matches).mean(dim=(-2, -1))
    return keypoint_weight * of_keypoints + match_weight * of_matches


def surrogate_loss(
    reward: Float[Tensor, "*B S T"],
    log_prob_keypoints: Float[Tensor, "*B S"],
    log_prob_matches: Float[Tensor, "*B S T"],
    *,
    baseline: Baseline = "leave_one_out",
    valid: Bool[Tensor, "*B"] | None = None,
    keypoint_weight: float = 1.0,
    match_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """The loss whose gradient is an estimate of -∇E[reward], averaged over the valid pairs.

    Its value means nothing; its gradient does. With ``"leave_one_out"`` and ``"none"`` it is unbiased for the policy
    with its support held fixed. (Reinforced Feature Points, eq. 4; Williams 1992.)

    Args:
        reward: Higher is better; detached here. S draws of key points, T draws of matches for each.
        log_prob_keypoints: log P(X, X′) of each draw of key points, of both images.
        log_prob_matches: log P(M | X, X′) of each draw of matches.
        baseline: See ``nested_advantages``.
        valid: False leaves a pair out with all its draws (unusable *input*; a failed estimate takes part).
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
        keypoint_weight=keypoint_weight,
        match_weight=match_weight,
    )
    if valid is None:
        return per_pair.mean()
    return torch.where(valid, per_pair, 0.0).sum() / valid.sum().clamp_min(1)
