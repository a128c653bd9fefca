"""What is subtracted from the reward before it weights a log-probability: less variance, and no bias or a named one.

The draws are nested: S draws of key points, T draws of matches for each. Rewards that share key points are *not*
independent, so each level has a baseline of its own.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.records import InputError

Baseline = Literal["leave_one_out", "mean", "none"]
BASELINES: tuple[str, ...] = get_args(Baseline)


def nested_advantages(
    reward: Float[Tensor, "*B S T"], baseline: Baseline
) -> tuple[Float[Tensor, "*B S"], Float[Tensor, "*B S T"]]:
    """The advantages (of each draw of key points, of each draw of matches given its key points).

    With r̄_s the mean reward of the T draws that share key points s:

    - ``"leave_one_out"``: A_s = r̄_s - mean of r̄_s' over s' ≠ s; A_st = r_st - mean of r_st' over t' ≠ t. Unbiased: what
      is subtracted is independent of the draw it is subtracted from. (One baseline over all other S T - 1 rewards
      would not be: the T - 1 that share the key points correlate with them, which shrinks their term to 0.75 for 3×3.)
    - ``"mean"``: the paper's. The mean contains the draw itself, which shrinks the two terms by 1 - 1/S and 1 - 1/T:
      biased in length, not in direction.
    - ``"none"``: unbiased, and noisy.

    Raises:
        InputError: leave-one-out with fewer than two draws on a level, or an unknown baseline.

    >>> import torch
    >>> keypoints, matches = nested_advantages(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), "leave_one_out")
    >>> keypoints, matches
    (tensor([ 2., -2.]), tensor([[-2.,  2.],
            [ 0.,  0.]]))
    """
    if baseline not in BASELINES:
        raise InputError(f"expected a baseline of {', '.join(BASELINES)}, got {baseline!r}")
    of_keypoints = reward.mean(dim=-1)
    if baseline == "none":
        return of_keypoints, reward
    if baseline == "mean":
        return of_keypoints - of_keypoints.mean(dim=-1, keepdim=True), reward - of_keypoints.unsqueeze(-1)
    num_keypoint_draws, num_match_draws = reward.shape[-2:]
    if num_keypoint_draws < 2 or num_match_draws < 2:
        raise InputError(
            f"leave_one_out expected at least 2 draws of key points and of matches, got {num_keypoint_draws} and "
            f"{num_match_draws}; raise the draws or choose baseline='none'"
        )
    return _less_mean_of_others(of_keypoints), _less_mean_of_others(reward)


def _less_mean_of_others(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """value_i - mean of value_j over j ≠ i, along the last dimension: n / (n - 1) times the distance from the mean."""
    n = value.shape[-1]
    return (value - torch.mean(value, dim=-1, keepdim=True)) * (n / (n - 1))
