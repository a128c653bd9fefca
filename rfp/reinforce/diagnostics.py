"""Figures that say whether there is anything to learn from a batch of draws. Tensors on the device, no host visit."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def draw_statistics(
    reward: Float[Tensor, "B S T"], failed: Bool[Tensor, "B S T"], valid: Bool[Tensor, "B"]
) -> dict[str, Float[Tensor, ""]]:
    """Scalars by name, over the valid pairs.

    - ``reward``: mean over all draws.
    - ``failed``: share of draws without an estimate.
    - ``spread_keypoints``, ``spread_matches``: standard deviation of the reward between draws of key points, and
      between draws of matches of the same key points. Where both are zero a pair teaches nothing.
    - ``invalid_pairs``: number of pairs left out for their input.
    """
    keep = valid[:, None, None]
    num_pairs = valid.sum().clamp_min(1)
    num_draws = num_pairs * reward.shape[1] * reward.shape[2]
    of_keypoints = reward.mean(dim=-1)
    spread_keypoints = of_keypoints.std(dim=-1, correction=min(1, of_keypoints.shape[-1] - 1))
    spread_matches = reward.std(dim=-1, correction=min(1, reward.shape[-1] - 1)).mean(dim=-1)
    return {
        "reward": torch.where(keep, reward, 0.0).sum() / num_draws,
        "failed": torch.where(keep, failed, False).sum() / num_draws,
        "spread_keypoints": torch.where(valid, spread_keypoints, 0.0).sum() / num_pairs,
        "spread_matches": torch.where(valid, spread_matches, 0.0).sum() / num_pairs,
        "invalid_pairs": (~valid).sum().to(reward.dtype),
    }
