"""Figures that say whether there is anything to learn from a batch of draws. Tensors on the device, no host visit."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HISTOGRAM_LOW, HISTOGRAM_HIGH, HISTOGRAM_WIDTH = -3.0, 1.0, 0.25
"""Range and width of the bins of rewards: all that the pose error, thresholds and shares can give. What lies beyond
falls into the outermost two, which are open."""
NUM_BINS = round((HISTOGRAM_HIGH - HISTOGRAM_LOW) / HISTOGRAM_WIDTH) + 2
HISTOGRAM_PREFIX = "reward_bin_"

AGREEMENT = 1e-6
"""Rewards of a pair that differ by no more than this agree."""


def draw_statistics(
    reward: Float[Tensor, "B S T"], failed: Bool[Tensor, "B S T"], valid: Bool[Tensor, "B"]
) -> dict[str, Float[Tensor, ""]]:
    """Scalars by name, over the valid pairs.

    - ``reward``: mean over all draws; ``reward_p10``, ``reward_p50``, ``reward_p90``: its quantiles.
    - ``failed``: share of draws without an estimate.
    - ``agreeing``: share of pairs whose draws all earned the same: they teach nothing.
    - ``spread_keypoints``, ``spread_matches``: standard deviation of the reward between draws of key points, and
      between draws of matches of the same key points. Where both are zero a pair teaches nothing.
    - ``reward_bin_00``, …: the share of draws in each bin of the reward, see ``reward_histogram``.
    - ``invalid_pairs``: number of pairs left out for their input.
    """
    keep = valid[:, None, None]
    num_pairs = valid.sum().clamp_min(1)
    num_draws = num_pairs * reward.shape[1] * reward.shape[2]
    of_keypoints = reward.mean(dim=-1)
    spread_keypoints = of_keypoints.std(dim=-1, correction=min(1, of_keypoints.shape[-1] - 1))
    spread_matches = reward.std(dim=-1, correction=min(1, reward.shape[-1] - 1)).mean(dim=-1)
    agreeing = reward.amax(dim=(1, 2)) - reward.amin(dim=(1, 2)) <= AGREEMENT
    low, middle, high = masked_quantiles(reward.flatten(), keep.expand_as(reward).flatten(), (0.1, 0.5, 0.9))
    return {
        "reward": torch.where(keep, reward, 0.0).sum() / num_draws,
        "reward_p10": low,
        "reward_p50": middle,
        "reward_p90": high,
        "failed": torch.where(keep, failed, False).sum() / num_draws,
        "agreeing": (agreeing & valid).sum() / num_pairs,
        "spread_keypoints": torch.where(valid, spread_keypoints, 0.0).sum() / num_pairs,
        "spread_matches": torch.where(valid, spread_matches, 0.0).sum() / num_pairs,
        "invalid_pairs": (~valid).sum().to(reward.dtype),
        **reward_histogram(reward, valid),
    }


def reward_histogram(reward: Float[Tensor, "B S T"], valid: Bool[Tensor, "B"]) -> dict[str, Float[Tensor, ""]]:
    """The share of the valid pairs' draws in each of 18 bins: below -3, sixteen of width 0.25, and from 1 on."""
    number = ((reward - HISTOGRAM_LOW) / HISTOGRAM_WIDTH).floor().clamp(-1, NUM_BINS - 2) + 1
    in_bin = number[..., None] == torch.arange(NUM_BINS, device=reward.device)
    num_draws = valid.sum().clamp_min(1) * reward.shape[1] * reward.shape[2]
    share = (in_bin & valid[:, None, None, None]).sum(dim=(0, 1, 2)) / num_draws
    return {f"{HISTOGRAM_PREFIX}{bin:02d}": value for bin, value in enumerate(share)}


def keypoint_statistics(
    log_p: Float[Tensor, "B I C"],
    candidate: Bool[Tensor, "B I C"],
    deployed: Bool[Tensor, "B I C"],
    drawn_deployed: Bool[Tensor, "B I S K"],
    count: Int[Tensor, "B I S K"],
    valid: Bool[Tensor, "B"],
) -> dict[str, Float[Tensor, ""]]:
    """Scalars of the policy of key points by name, means over the images (I = 2 a pair) of the valid pairs.

    - ``entropy_keypoints``: H = -Σ p log p of one draw, in nats; ``entropy_share_keypoints``: H / log n, n the number
      of candidates: 1 is a detector that prefers nothing.
    - ``effective_keypoints``: exp H, the number of candidates that such a draw is spread over.
    - ``overlap``: the share of drawn key points that the deployed detector would take, too.
    - ``expected_overlap``: the probability Σ p of the deployed ones; the mean of ``overlap`` for draws with
      replacement, of the first draw without.

    Args:
        deployed: Candidates that the deployed detector takes.
        drawn_deployed: The same of the drawn ones.
        count: How often each was drawn; 0 where the slot is empty.
    """
    probability = torch.where(deployed & candidate, log_p.exp(), 0.0).sum(dim=-1)
    drawn = count.sum(dim=(-2, -1))
    overlap = torch.where(drawn_deployed, count, 0).sum(dim=(-2, -1)) / drawn.clamp_min(1)
    return {
        **choice_statistics(log_p, candidate, valid, name="keypoints"),
        "overlap": mean_of_valid(overlap, valid),
        "expected_overlap": mean_of_valid(probability, valid),
    }


def choice_statistics(
    log_p: Float[Tensor, "B S C"], candidate: Bool[Tensor, "B S C"], valid: Bool[Tensor, "B"], *, name: str
) -> dict[str, Float[Tensor, ""]]:
    """``entropy_NAME`` in nats, ``entropy_share_NAME`` of log n, ``effective_NAME`` = exp H; means over what is valid.

    Without candidates all three are 0, and of one candidate the first two.
    """
    entropy = -torch.where(candidate, log_p.exp() * log_p, 0.0).sum(dim=-1)
    number = candidate.sum(dim=-1)
    share = entropy / number.clamp_min(2).to(entropy.dtype).log()
    effective = torch.where(number > 0, entropy.exp(), 0.0)
    return {
        f"entropy_{name}": mean_of_valid(entropy, valid),
        f"entropy_share_{name}": mean_of_valid(share, valid),
        f"effective_{name}": mean_of_valid(effective, valid),
    }


def mean_of_valid(value: Float[Tensor, "B N"], valid: Bool[Tensor, "B"]) -> Float[Tensor, ""]:
    """The mean over the rows that are valid; 0 where none is."""
    return torch.where(valid[:, None], value, 0.0).sum() / (valid.sum().clamp_min(1) * value.shape[1])


def masked_quantiles(
    value: Float[Tensor, "N"], valid: Bool[Tensor, "N"], levels: tuple[float, ...]
) -> tuple[Float[Tensor, ""], ...]:
    """The quantiles of the valid values, linearly between neighbours; 0 where none is valid."""
    ordered = torch.where(valid, value, float("inf")).sort().values
    last = (valid.sum() - 1).clamp_min(0)

    def quantile(level: float) -> Tensor:
        place = last * level
        below = ordered.gather(0, place.floor().long()[None])
        above = ordered.gather(0, place.ceil().long()[None])
        between = below + (above - below) * (place - place.floor())
        return torch.where(valid.any(), between, 0.0).squeeze(0)

    return tuple(quantile(level) for level in levels)


def are_among(
    xy_px: Float[Tensor, "*B N 2"], others_xy_px: Float[Tensor, "*B K 2"], others_valid: Bool[Tensor, "*B K"]
) -> Bool[Tensor, "*B N"]:
    """Which of N points on the pixel grid are among the valid ones of K others.

    >>> import torch
    >>> points = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    >>> are_among(points, points[:1], torch.tensor([True]))
    tensor([ True, False])
    """

    def number(xy: Tensor) -> Tensor:
        x, y = xy.long().unbind(-1)
        return x + (y << 32)

    numbers = number(xy_px)
    others = torch.where(others_valid, number(others_xy_px), -1).sort(dim=-1).values.contiguous()
    place = torch.searchsorted(others, numbers.contiguous()).clamp_max(others.shape[-1] - 1)
    return others.gather(-1, place) == numbers
