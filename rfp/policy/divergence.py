"""How far one key-point policy lies from another, and how spread out it is: per key point drawn, differentiable."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.policy.categorical import log_probabilities
from rfp.policy.keypoints import KeypointDistribution, KeypointOptions


def normalised_entropy(distribution: KeypointDistribution) -> Float[Tensor, "*B"]:
    """-Σ p log p / log n over the n candidates of each image: 1 where they are equally likely, 0 for a single one.

    The entropy of *one* drawn key point: it depends neither on how many are drawn nor on how many candidates there are.

    >>> import torch
    >>> even = torch.full((1, 4), 0.25).log()
    >>> normalised_entropy(KeypointDistribution(even, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, 2)))
    tensor([1.])
    """
    log_p, valid = distribution.log_p, distribution.valid
    entropy = -torch.where(valid, log_p.exp() * log_p, 0.0).sum(dim=-1)
    return entropy / valid.sum(dim=-1).clamp_min(2).to(log_p).log()


def divergence_from_start(
    start: KeypointDistribution,
    now: KeypointDistribution,
    log_heat: Float[Tensor, "b h w"],
    options: KeypointOptions,
) -> Float[Tensor, "b"]:
    """KL(start ‖ now) of one drawn key point in nats, over the candidates of either network; 0 where both have none.

    Σ p₀ (log p₀ - log p), p₀ over the candidates of the start, p over those and its own together: a key point of the
    start that fades costs, be it a local maximum still or not, and so does the probability that new candidates take
    away. Over the start's candidates alone new ones would be free; over all pixels the shape of each peak would count,
    which the policy never draws from (with ``nms_radius=0`` all pixels are candidates, and the KL is over all of them).
    The direction KL(start ‖ now) is finite and grows where the start's key points are given up; the other one would
    let them go and only forbid new ones. Like the policy's own support, the candidates are held fixed in the gradient.

    Args:
        start: The distribution of the network that training began with, on the same images.
        now: The present one.
        log_heat: The present heat map, from which ``now`` was made.
        options: Of both.
    """
    width, flat = log_heat.shape[-1], log_heat.flatten(1)
    at_start = _pixel(start, width)
    candidates = _mask(start, at_start, flat) | _mask(now, _pixel(now, width), flat)
    log_p = log_probabilities(flat, candidates, uniform_mixing=options.uniform_mixing).gather(-1, at_start)
    return torch.where(start.valid, start.log_p.exp() * (start.log_p - log_p), 0.0).sum(dim=-1)


def _pixel(distribution: KeypointDistribution, width: int) -> Int[Tensor, "b C"]:
    """The number of each candidate's pixel, row by row."""
    x, y = distribution.xy_px.unbind(dim=-1)
    return (y * width + x).long()


def _mask(
    distribution: KeypointDistribution, pixel: Int[Tensor, "b C"], like: Float[Tensor, "b P"]
) -> Bool[Tensor, "b P"]:
    """True at the pixels that are candidates; the slots of a distribution lie on distinct pixels."""
    return torch.zeros_like(like, dtype=torch.bool).scatter(-1, pixel, distribution.valid)
