"""Credit of its own for each key point: what *its* matches are worth, and not what the whole draw was.

Of the reward of a draw of hundreds of key points, the share that any one of them has is lost in what all the others
do. Where the reward adds over matches, the expected value a_i of a key point's matches is known, and DISK (Tyszkiewicz
et al. 2020, section 3) reinforces each key point with that. Here there are K key points and no more: one takes the
place of another. With π_i the probability that i is among the draws, given what the others are,

    ∇ Σ a_i π_i = Σ s_i (a_i - ā) ∇ log f_i,    s_i = ∂π_i / ∂ log f_i,    ā = Σ s_i a_i / Σ s_i,

and a draw of the key points estimates both sums from those that are in it, weighted by 1 / π_i. One that is certain to
be drawn has a slope of zero, so that nothing is gained by being surer of it still; ā is what the key points at the
margin are worth. It is biased: that a key point takes probability from the matches of others, or makes them possible,
has no part in its credit, and ā comes from the same draw.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def own_match_surrogate(
    value: Float[Tensor, "*B S 2 K"], log_inclusion: Float[Tensor, "*B S 2 K"], valid: Bool[Tensor, "*B S 2 K"]
) -> Float[Tensor, "*B"]:
    """The detector's term of the surrogate of each pair: the mean over draws of -Σ (a_i - ā) log π_i.

    Args:
        value: a_i, ``expected_value_of_keypoints``; detached here.
        log_inclusion: log π_i, of ``Keypoints``, of images 1 and 2.
        valid: Slots with a key point.
    """
    value = torch.where(valid, value.detach(), 0.0)
    # s / π from π = 1 - exp(-λ): λ exp(-λ) / π.
    inclusion = log_inclusion.detach().exp()
    rate = -torch.log1p(-inclusion.clamp_max(1.0 - 1e-7))
    slope = torch.where(valid, rate * (1.0 - inclusion) / inclusion, 0.0)
    marginal = (slope * value).sum(dim=-1, keepdim=True) / slope.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    advantage = torch.where(valid, value - marginal, 0.0)
    return -(advantage * log_inclusion).sum(dim=(-2, -1)).mean(dim=-1)
