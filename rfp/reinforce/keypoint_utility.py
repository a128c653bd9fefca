"""The logarithm of what each key point's matches are worth, in place of their sum.

The gradient of an expected reward is proportional to the probability with which it is earned already: a key point that
finds its counterpart once in a thousand draws, the one that has most to learn, has next to no part in it. With the
expected value u_i in [0, 1] of the matches of key point i, which is known exactly where the reward adds over matches,

    U = mean over the key points of log((u_i + ε) / (1 + ε)),    ∇U = mean of ∇u_i / (u_i + ε),

each key point has the same say, down to ε, below which it counts as one that the other image does not show. That must
not be too low: some match of a key point without a counterpart lies along its epipolar line by chance, and without a
floor it would be learned as eagerly as a right one. With values of 0 and 1 this is the log-likelihood that a match is
right, which is what low-level training maximises; but what is right is decided by the pose alone, over all candidates,
and not by correspondences that somebody labelled.
It is another objective than the expected reward, and its gradient is exact for given key points.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def log_utility(
    value: Float[Tensor, "*B S 2 K"], valid: Bool[Tensor, "*B S 2 K"], *, floor: float
) -> Float[Tensor, "*B"]:
    """The mean over draws and key points, of both images, of log((u + ε) / (1 + ε)): 0 at best. 0 without key points.

    Args:
        value: u, what the matches of each key point are worth, at most 1; below 0 it counts as 0.
        valid: Slots with a key point.
        floor: ε, above 0.

    >>> log_utility(torch.tensor([[[1.0, 0.5]], [[1.0, 0.0]]]).transpose(0, 1), torch.ones(1, 2, 2).bool(), floor=0.5)
    tensor(-0.3760)
    """
    each = torch.log((torch.where(valid, value, 0.0).clamp_min(0.0) + floor) / (1.0 + floor))
    number = valid.sum(dim=(-3, -2, -1)).clamp_min(1)
    return torch.where(valid, each, 0.0).sum(dim=(-3, -2, -1)) / number
