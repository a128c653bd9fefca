"""Draws from a categorical distribution over candidates, and the exact log-probability of what was drawn.

The functions take the noise itself (uniforms in [0, 1)), so that laws can be stated on equal noise and the core can be
compiled. Candidates lie on the last dimension, masked by ``valid``; a row without any gives no draw, log 1 = 0.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MASKED_LOG_PROBABILITY = -1e30
"""Stands for log 0 in float32 and float64: finite, so that a masked candidate can never make a NaN in the gradient."""


@dataclass(frozen=True)
class DistinctDraws:
    """The distinct candidates among K draws, in ascending order; slots of repetitions are masked."""

    index: Int[Tensor, "*B K"]
    count: Int[Tensor, "*B K"]
    valid: Bool[Tensor, "*B K"]


def log_probabilities(
    logits: Float[Tensor, "*B C"], valid: Bool[Tensor, "*B C"], *, uniform_mixing: float = 0.0
) -> Float[Tensor, "*B C"]:
    """log p of each candidate: p = (1 - ε) softmax(logits) + ε / n over the n valid candidates, ε = ``uniform_mixing``.

    Masked candidates read ``MASKED_LOG_PROBABILITY``, and no gradient reaches their logits.

    >>> import torch
    >>> log_probabilities(torch.zeros(4), torch.tensor([True, True, False, False])).exp()
    tensor([0.5000, 0.5000, 0.0000, 0.0000])
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    masked = torch.where(valid, logits, MASKED_LOG_PROBABILITY)
    log_p = torch.log_softmax(masked, dim=-1)
    if uniform_mixing > 0.0:
        log_uniform = -valid.sum(dim=-1, keepdim=True).clamp_min(1).to(log_p).log()
        log_p = torch.logaddexp(log_p + math.log(1.0 - uniform_mixing), log_uniform + math.log(uniform_mixing))
    return torch.where(valid, log_p, MASKED_LOG_PROBABILITY)


def draw_with_replacement(
    log_p: Float[Tensor, "*B C"], valid: Bool[Tensor, "*B C"], uniforms: Float[Tensor, "*B S K"]
) -> Int[Tensor, "*B S K"]:
    """Candidates drawn independently by inverting the cumulative distribution. A row without candidates gives C - 1.

    Not differentiable.
    """
    # float64: in float32 the running sum over 10^5 pixels loses the tail's mass.
    mass = torch.where(valid, log_p.detach().double().exp(), 0.0)
    cumulative = mass.cumsum(dim=-1)
    # Scaled by the total that was really reached, so that no uniform can run off the end. right=True returns the first
    # candidate whose cumulative mass exceeds the target, which never has mass zero.
    target = uniforms.double().flatten(-2) * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, target, right=True).clamp_max(log_p.shape[-1] - 1)
    return index.reshape(uniforms.shape)


def draw_without_replacement(
    log_p: Float[Tensor, "*B C"], valid: Bool[Tensor, "*B C"], uniforms: Float[Tensor, "*B S C"], num_draws: int
) -> tuple[Int[Tensor, "*B S K"], Bool[Tensor, "*B S K"], Float[Tensor, "*B S"]]:
    """Ordered draws without replacement (indices, mask) by Gumbel top-k; the mask ends where candidates run out.

    The K largest of log p + Gumbel noise are a draw from the Plackett–Luce law (Yellott 1977; Kool et al. 2019,
    "Stochastic Beams and Where to Find Them", section 2). Not differentiable.

    Returns:
        The indices, the mask, and the largest sum that was *not* drawn, -inf where there is none.
    """
    # torch.rand has a step of 2^-24: kept off both ends, where the double logarithm is infinite.
    u = uniforms.clamp(min=2.0**-26, max=1.0 - 2.0**-24)
    perturbed = log_p.detach().unsqueeze(-2) - (-u.log()).log()
    perturbed = torch.where(valid.unsqueeze(-2), perturbed, float("-inf"))
    top = torch.topk(perturbed, min(num_draws + 1, log_p.shape[-1]), dim=-1)
    missing = max(0, num_draws + 1 - top.values.shape[-1])
    values = torch.nn.functional.pad(top.values, (0, missing), value=float("-inf"))
    index = torch.nn.functional.pad(top.indices, (0, missing))
    return index[..., :num_draws], values[..., :num_draws] > float("-inf"), values[..., num_draws]


def log_inclusion(
    log_p: Float[Tensor, "*B C"],
    index: Int[Tensor, "*B S K"],
    drawn: Bool[Tensor, "*B S K"],
    threshold: Float[Tensor, "*B S"],
) -> Float[Tensor, "*B S K"]:
    """log P that log p_i + Gumbel noise exceeds the threshold, log(1 - exp(-p_i / e^κ)), of the drawn; 0 of the others.

    Given the largest sum that was not drawn, κ, this is the probability that candidate i is among the draws, and the
    draws of the others say nothing more of it (Kool et al. 2019, section 4.2). Of K draws with replacement κ is -log K,
    but for the chance in the number of draws. Its slope falls to 0 where a candidate is as good as certain.
    """
    # Finite on both ends: e^20 times certain, and of a mass that float32 still holds.
    log_rate = (torch.where(drawn, _at(log_p, index), 0.0) - threshold.unsqueeze(-1)).clamp(-80.0, 20.0)
    return torch.where(drawn, (-torch.expm1(-log_rate.exp())).log(), 0.0)


def distinct_draws(index: Int[Tensor, "*B K"], drawn: Bool[Tensor, "*B K"]) -> DistinctDraws:
    """Each distinct drawn candidate once, in ascending order, with the number of times it was drawn."""
    end = torch.iinfo(index.dtype).max
    ordered = torch.where(drawn, index, end).sort(dim=-1).values
    first = torch.ones_like(ordered[..., :1], dtype=torch.bool)
    is_first = torch.cat([first, ordered[..., 1:] != ordered[..., :-1]], dim=-1)[..., : ordered.shape[-1]]
    valid = is_first & (ordered < end)
    run_end = torch.searchsorted(ordered, ordered, right=True)
    run_start = torch.searchsorted(ordered, ordered, right=False)
    return DistinctDraws(
        index=torch.where(valid, ordered, 0), count=torch.where(valid, run_end - run_start, 0), valid=valid
    )


def log_prob_with_replacement(
    log_p: Float[Tensor, "*B C"], index: Int[Tensor, "*B S K"], count: Int[Tensor, "*B S K"]
) -> Float[Tensor, "*B S"]:
    """log P of independent draws: Σ n_i log p_i, n_i the number of times candidate i was drawn.

    The count matters: the original implementation has a 0/1 mask in its place, which is the gradient of nothing.
    """
    return torch.where(count > 0, _at(log_p, index) * count, 0.0).sum(dim=-1)


def log_prob_without_replacement(
    log_p: Float[Tensor, "*B C"], index: Int[Tensor, "*B S K"], drawn: Bool[Tensor, "*B S K"]
) -> Float[Tensor, "*B S"]:
    """log P of *ordered* draws without replacement: Σ_k (log p_k - logsumexp of what remained before draw k).

    The Plackett–Luce law. What remains is summed up from the candidates never drawn and the later draws, since
    log(1 - Σ earlier p) cancels all its digits once most of the mass is drawn.
    """
    candidates = log_p.unsqueeze(-2).expand(*index.shape[:-1], log_p.shape[-1])
    log_drawn = torch.where(drawn, candidates.gather(-1, index), MASKED_LOG_PROBABILITY)
    # amax instead of a plain write: masked slots point at candidate 0, which may also be a true draw.
    was_drawn = torch.zeros_like(candidates, dtype=torch.int8).scatter_reduce(-1, index, drawn.to(torch.int8), "amax")
    log_never_drawn = torch.where(was_drawn > 0, MASKED_LOG_PROBABILITY, candidates).logsumexp(dim=-1, keepdim=True)
    log_later = log_drawn.flip(-1).logcumsumexp(dim=-1).flip(-1)
    log_remaining = torch.logaddexp(log_never_drawn, log_later)
    return torch.where(drawn, log_drawn - log_remaining, 0.0).sum(dim=-1)


def _at(log_p: Float[Tensor, "*B C"], index: Int[Tensor, "*B S K"]) -> Float[Tensor, "*B S K"]:
    """log p of what each of the S draws holds."""
    return log_p.unsqueeze(-2).expand(*index.shape[:-1], log_p.shape[-1]).gather(-1, index)
