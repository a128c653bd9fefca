"""What is subtracted from the reward before it weights a log-probability: less variance, and no bias or a named one.

The draws are nested: S draws of key points, T draws of matches for each. Rewards that share key points are *not*
independent, so each level has a baseline of its own.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.records import InputError

Baseline = Literal["leave_one_out", "all_others", "mean", "none", "moving_average", "self_critical"]
BASELINES: tuple[str, ...] = get_args(Baseline)
OF_REFERENCE: tuple[str, ...] = ("moving_average", "self_critical")
"""The baselines that subtract a value from elsewhere, one a pair."""


def nested_advantages(
    reward: Float[Tensor, "*B S T"], baseline: Baseline, *, reference: Float[Tensor, "*B"] | None = None
) -> tuple[Float[Tensor, "*B S"], Float[Tensor, "*B S T"]]:
    """The advantages (of each draw of key points, of each draw of matches given its key points).

    With r̄_s the mean reward of the T draws that share key points s:

    - ``"leave_one_out"``: A_s = r̄_s - mean of r̄_s' over s' ≠ s; A_st = r_st - mean of r_st' over t' ≠ t. Unbiased: what
      is subtracted is independent of the draw it is subtracted from. (One baseline over all other S T - 1 rewards
      would not be: the T - 1 that share the key points correlate with them, which shrinks their term to 0.75 for 3×3.)
    - ``"all_others"``: A_s as above; A_st = r_st - mean of all other S T - 1 rewards, which *are* independent of the
      draw of matches given its key points. Unbiased, and the one that works with T = 1.
    - ``"moving_average"``, ``"self_critical"``: A_s = r̄_s - b, A_st = r_st - b with b the ``reference`` of the pair,
      the average of its earlier rewards or the reward of the deployed detector (Rennie et al. 2017, "Self-critical
      sequence training"). Unbiased as long as b does not depend on these draws.
    - ``"mean"``: the paper's. The mean contains the draw itself, which shrinks the two terms by 1 - 1/S and 1 - 1/T:
      biased in length, not in direction.
    - ``"none"``: unbiased, and noisy.

    Raises:
        InputError: too few draws for the baseline, one of the references without it, or an unknown baseline.

    >>> import torch
    >>> keypoints, matches = nested_advantages(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), "leave_one_out")
    >>> keypoints, matches
    (tensor([ 2., -2.]), tensor([[-2.,  2.],
            [ 0.,  0.]]))
    """
    check_baseline(baseline, *reward.shape[-2:])
    of_keypoints = keypoint_advantages(reward.mean(dim=-1), baseline, reference=reference)
    of_draw = None if reference is None else reference[..., None]
    return of_keypoints, match_advantages(reward, baseline, reference=of_draw)


def keypoint_advantages(
    value: Float[Tensor, "*B S"], baseline: Baseline, *, reference: Float[Tensor, "*B"] | None = None
) -> Float[Tensor, "*B S"]:
    """A_s from an estimate of each draw's E[r | X_s]."""
    if baseline == "none":
        return value
    if baseline == "mean":
        return value - value.mean(dim=-1, keepdim=True)
    if baseline in OF_REFERENCE:
        return value - _given(reference, baseline)[..., None]
    return _less_mean_of_others(value)


def match_advantages(
    reward: Float[Tensor, "*B S T"], baseline: Baseline, *, reference: Float[Tensor, "*B #S"] | None = None
) -> Float[Tensor, "*B S T"]:
    """A_st from the reward of each draw, whose key points the baseline may depend on."""
    if baseline == "none":
        return reward
    if baseline == "mean":
        return reward - reward.mean(dim=-1, keepdim=True)
    if baseline in OF_REFERENCE:
        return reward - _given(reference, baseline)[..., None]
    if baseline == "all_others":
        return _less_mean_of_others(reward.flatten(-2)).unflatten(-1, reward.shape[-2:])
    return _less_mean_of_others(reward)


def check_baseline(baseline: str, num_keypoint_draws: int, num_match_draws: int) -> None:
    """Refuse a baseline that is unknown or needs more draws.

    Raises:
        InputError: it is.
    """
    if baseline not in BASELINES:
        raise InputError(f"expected a baseline of {', '.join(BASELINES)}, got {baseline!r}")
    fewest = {"leave_one_out": (2, 2), "all_others": (2, 1)}.get(baseline, (1, 1))
    if num_keypoint_draws < fewest[0] or num_match_draws < fewest[1]:
        raise InputError(
            f"{baseline} expected at least {fewest[0]} draws of key points and {fewest[1]} of matches, got "
            f"{num_keypoint_draws} and {num_match_draws}; raise the draws or choose baseline='none'"
        )


def _given(reference: Tensor | None, baseline: str) -> Tensor:
    if reference is None:
        raise InputError(f"{baseline} expected the reference values of the pairs, got none; give reference=")
    return reference


def _less_mean_of_others(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """value_i - mean of value_j over j ≠ i, along the last dimension: n / (n - 1) times the distance from the mean."""
    n = value.shape[-1]
    return (value - torch.mean(value, dim=-1, keepdim=True)) * (n / (n - 1))
