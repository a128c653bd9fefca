"""Minimal samples of distinct matches from uniform noise."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def draw_minimal_samples(
    noise: Float[Tensor, "*B H size"], weight: Float[Tensor, "*B N"]
) -> tuple[Int[Tensor, "*B H size"], Bool[Tensor, "*B H"]]:
    """Indices of ``size`` distinct matches for each of H samples, and whether the sample is usable.

    The matches of a sample are drawn one after the other in proportion to their weights, without replacement: the k-th
    uniform picks a place on the axis of cumulated weights from which the k - 1 intervals taken already are cut out.
    Equal weights give uniform samples of distinct matches; zero weight is never drawn.

    A problem with fewer than ``size`` matches of positive weight has no usable sample. Indices always point into the
    N slots.

    Args:
        noise: U(0, 1).
        weight: counts of the matches, 0 for masked ones.
    """
    batch, (num_samples, size), num_slots = noise.shape[:-2], noise.shape[-2:], weight.shape[-1]
    if num_slots == 0:
        return noise.new_zeros(noise.shape, dtype=torch.int64), noise.new_zeros(noise.shape[:-1], dtype=torch.bool)
    # float64: places must resolve single counts even when counts add up to millions.
    weight = weight.reshape(-1, num_slots).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp_min_(0).double()
    ends = weight.cumsum(dim=-1)
    uniforms = noise.reshape(-1, num_samples, size).double()

    taken: list[tuple[Tensor, Tensor]] = []  # intervals (start, length), ascending
    remaining = ends[:, -1:].expand(-1, num_samples)
    indices = []
    for draw in range(size):
        place = uniforms[..., draw] * remaining
        for start, length in taken:
            place = torch.where(place >= start, place + length, place)
        index = torch.searchsorted(ends, place.contiguous(), right=True).clamp_max_(num_slots - 1)
        indices.append(index)
        if draw < size - 1:
            length = weight.gather(1, index)
            remaining = (remaining - length).clamp_min_(0)
            taken = _inserted(taken, ends.gather(1, index) - length, length)

    samples = torch.stack(indices, dim=-1).reshape(*batch, num_samples, size)
    usable = samples_usable(samples, weight.reshape(*batch, num_slots) > 0)
    return samples, usable


def weights_of_order(
    quality: Float[Tensor, "*B N"], valid: Bool[Tensor, "*B N"] | None = None
) -> Float[Tensor, "*B N"]:
    """Sampling weights from the order of the matches, the best first: ``log(N / (k + ½))`` for the k-th of N, from 0.

    As often as in samples from the n best with n uniform from 1 to N: the best half is drawn 85 % of the time, and
    every match at some time. In the spirit of PROSAC (O. Chum and J. Matas, 2005), whose samples come from more and
    more of the best, with a distribution that stays the same throughout the batch. Not differentiable.

    Args:
        quality: any number that is higher for better matches: the similarity of descriptors, a matcher's score. Only
            their order counts; NaN comes last.
        valid: which of the N slots hold a match, all by default; the others weigh 0.

    >>> weights_of_order(torch.tensor([0.2, 0.9, 0.5])).round(decimals=3)
    tensor([0.1820, 1.7920, 0.6930])
    """
    quality = quality.nan_to_num(nan=-torch.inf)
    usable = torch.ones_like(quality, dtype=torch.bool) if valid is None else valid
    last = torch.where(usable, quality, -torch.inf)
    order = last.argsort(dim=-1, descending=True, stable=True)
    # Slots without a match come behind matches whose quality is -inf, too.
    order = order.gather(-1, usable.gather(-1, order).int().argsort(dim=-1, descending=True, stable=True))
    rank = order.argsort(dim=-1).to(quality.dtype)
    number = usable.sum(dim=-1, keepdim=True).to(quality.dtype)
    weight = (number / (rank + 0.5)).clamp_min(1).log()
    return torch.where(usable, weight, torch.zeros_like(weight))


def samples_usable(samples: Int[Tensor, "*B H size"], valid: Bool[Tensor, "*B N"]) -> Bool[Tensor, "*B H"]:
    """Whether the matches of each sample are distinct and valid. Indices outside of the N slots are not valid."""
    num_slots, size = valid.shape[-1], samples.shape[-1]
    inside = (samples >= 0) & (samples < num_slots)
    if num_slots == 0:
        return inside.all(dim=-1)
    flat = samples.clamp(0, num_slots - 1).flatten(-2)
    usable = (valid.gather(-1, flat).unflatten(-1, samples.shape[-2:]) & inside).all(dim=-1)
    for first in range(size):
        for second in range(first + 1, size):
            usable = usable & (samples[..., first] != samples[..., second])
    return usable


def _inserted(intervals: list[tuple[Tensor, Tensor]], start: Tensor, length: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The ascending intervals with one more, inserted by compare and exchange."""
    result = []
    for other_start, other_length in intervals:
        before = start < other_start
        result.append((torch.where(before, start, other_start), torch.where(before, length, other_length)))
        start, length = torch.where(before, other_start, start), torch.where(before, other_length, length)
    return [*result, (start, length)]
