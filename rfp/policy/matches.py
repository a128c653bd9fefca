"""The match policy: which of the candidate matches between two sets of key points are handed to the estimator.

P(m_ij) = exp(-‖d_i - d'_j‖ / τ) / Σ over the candidates (Reinforced Feature Points, eq. 2). The candidates are the
mutual nearest neighbours, those of them that pass the ratio test, all pairs, or all pairs under the dual softmax; like
the support of the key points, the set of mutual nearest neighbours is held fixed when the gradient is taken. With
"reciprocal" candidates each key point of either image draws a partner (``rfp.policy.reciprocal``).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.matching.nearest_neighbours import masked_similarity, mutual_maxima, nearest_to_second
from rfp.policy.categorical import (
    MASKED_LOG_PROBABILITY,
    distinct_draws,
    draw_with_replacement,
    draw_without_replacement,
    log_prob_with_replacement,
    log_prob_without_replacement,
    log_probabilities,
)
from rfp.policy.reciprocal import ReciprocalDistribution, draw_reciprocal, reciprocal_distribution
from rfp.records import InputError, Matches

CANDIDATES = ("mutual", "ratio", "all", "dual_softmax", "reciprocal")


@dataclass(frozen=True)
class MatchOptions:
    """How matches are drawn between two sets of key points."""

    candidates: Literal["mutual", "ratio", "all", "dual_softmax", "reciprocal"] = "mutual"
    """Mutual nearest neighbours; those of them that stand out from the second nearest; all K² pairs; all pairs, their
    logits the dual softmax of the similarities; or pairs that choose each other, their number left to chance."""
    temperature: float = 0.25
    """τ; 1 is the paper's, at which unit descriptors are drawn almost uniformly. Of "reciprocal": of the similarities,
    as in DISK, of all others of the distances."""
    fraction: float = 0.5
    """Draws as a share of the candidates ("mutual", "ratio") or of the key points ("all", "dual_softmax")."""
    replacement: bool = True
    """Draw with replacement (a match may be drawn several times and is counted), or without (Plackett–Luce). Of
    "reciprocal" neither: every key point has one choice."""
    ratio: float = 0.9
    """Of "ratio": nearest over second nearest distance, in both directions, below which a match is a candidate."""

    def __post_init__(self):
        if self.candidates not in CANDIDATES:
            raise InputError(f"expected candidates of {', '.join(CANDIDATES)}, got {self.candidates!r}")
        if not 0.0 < self.ratio <= 1.0:
            raise InputError(f"expected a ratio in (0, 1], got {self.ratio}; 0.9 is usual")
        if self.temperature <= 0.0:
            raise InputError(f"expected a temperature above 0, got {self.temperature}")
        if not 0.0 < self.fraction <= 1.0:
            raise InputError(f"expected a fraction in (0, 1], got {self.fraction}")

    @property
    def one_each(self) -> bool:
        """Whether a key point of image 1 is in one candidate at most: K of them, and not K²."""
        return self.candidates in ("mutual", "ratio")

    def num_slots(self, num_keypoints: int) -> int:
        """M, the most draws there can be."""
        if self.candidates == "reciprocal":
            return num_keypoints
        return max(1, math.ceil(self.fraction * num_keypoints))


@dataclass(frozen=True)
class MatchDistribution:
    """log p over C candidate matches, each a key point of image 1 and one of image 2."""

    log_p: Float[Tensor, "*B S C"]
    valid: Bool[Tensor, "*B S C"]
    index1: Int[Tensor, "*B S C"]
    index2: Int[Tensor, "*B S C"]

    def choices(self) -> tuple[Float[Tensor, "*B S C"], Bool[Tensor, "*B S C"]]:
        """log p over what is chosen from, and which of it there is: one choice a draw of key points."""
        return self.log_p, self.valid


def match_distribution(
    descriptors1: Float[Tensor, "*B S K1 D"],
    descriptors2: Float[Tensor, "*B S K2 D"],
    valid1: Bool[Tensor, "*B S K1"],
    valid2: Bool[Tensor, "*B S K2"],
    options: MatchOptions,
) -> MatchDistribution | ReciprocalDistribution:
    """The distribution over the candidate matches of each draw of key points, differentiable in the descriptors."""
    if options.one_each:
        similarity = masked_similarity(descriptors1, descriptors2, valid1, valid2)
        index2, valid = mutual_maxima(similarity, valid1, valid2)
        if options.candidates == "ratio":
            valid = valid & (nearest_to_second(similarity, index2) < options.ratio)
        partner = descriptors2.gather(-2, index2[..., None].expand(*index2.shape, descriptors2.shape[-1]))
        squared = (descriptors1 - partner).square().sum(dim=-1)
        logits = -_root(squared) / options.temperature
        index1 = torch.arange(index2.shape[-1], device=index2.device).expand(index2.shape)
        return MatchDistribution(log_probabilities(logits, valid), valid, index1, index2)

    k1, k2 = descriptors1.shape[-2], descriptors2.shape[-2]
    pairs = valid1[..., :, None] & valid2[..., None, :]
    similarity = descriptors1 @ descriptors2.transpose(-1, -2)
    if options.candidates == "reciprocal":
        return reciprocal_distribution(similarity / options.temperature, pairs)
    distance = _root(2.0 - 2.0 * similarity)
    logits = -distance / options.temperature
    if options.candidates == "dual_softmax":
        masked = torch.where(pairs, logits, MASKED_LOG_PROBABILITY)
        logits = torch.log_softmax(masked, dim=-1) + torch.log_softmax(masked, dim=-2)
    candidate = torch.arange(k1 * k2, device=logits.device).expand(*logits.shape[:-2], -1)
    valid = pairs.flatten(-2)
    return MatchDistribution(
        log_p=log_probabilities(logits.flatten(-2), valid),
        valid=valid,
        index1=candidate.div(k2, rounding_mode="floor"),
        index2=candidate % k2,
    )


def match_noise_shape(options: MatchOptions, num_draws: int, num_keypoints: int) -> tuple[int, int]:
    """(T, length) of the uniforms that ``draw_matches`` needs for one draw of key points."""
    if options.candidates == "reciprocal":
        return num_draws, 2 * num_keypoints
    if options.replacement:
        return num_draws, options.num_slots(num_keypoints)
    return num_draws, num_keypoints if options.one_each else num_keypoints**2


def draw_matches(
    distribution: MatchDistribution | ReciprocalDistribution,
    uniforms: Float[Tensor, "*B S T L"],
    num_keypoints: Int[Tensor, "*B S"],
    num_slots: int,
    options: MatchOptions,
) -> Matches:
    """T draws of matches for each draw of key points, and the log-probability of each draw.

    How many are drawn depends on the key points alone, so the draws stay independent given them; of "reciprocal"
    candidates it is left to chance, and in the log-probability.

    Args:
        uniforms: Of ``match_noise_shape``.
        num_keypoints: Key points that image 1 really has.
        num_slots: ``options.num_slots(K)``.
    """
    if isinstance(distribution, ReciprocalDistribution):
        return draw_reciprocal(distribution, uniforms)
    log_p, valid = distribution.log_p, distribution.valid
    num_candidates = valid.sum(dim=-1)
    base = num_candidates if options.one_each else torch.minimum(num_keypoints, num_candidates)
    wanted = (base * options.fraction).ceil().long()[..., None, None]
    in_draw = (torch.arange(num_slots, device=log_p.device) < wanted).expand(*uniforms.shape[:-1], num_slots)
    if options.replacement:
        draws = distinct_draws(draw_with_replacement(log_p, valid, uniforms), in_draw)
        log_prob = log_prob_with_replacement(log_p, draws.index, draws.count)
    else:
        index, drawn, _ = draw_without_replacement(log_p, valid, uniforms, num_slots)
        log_prob = log_prob_without_replacement(log_p, index, drawn & in_draw)
        draws = distinct_draws(index, drawn & in_draw)

    def of_candidate(values: Int[Tensor, "*B S C"]) -> Int[Tensor, "*B S T M"]:
        at_index = values.unsqueeze(-2).expand(*draws.index.shape[:-1], -1).gather(-1, draws.index)
        return torch.where(draws.valid, at_index, 0)

    return Matches(
        index1=of_candidate(distribution.index1),
        index2=of_candidate(distribution.index2),
        count=draws.count,
        valid=draws.valid,
        log_prob=log_prob,
        num_candidates=num_candidates,
    )


def _root(squared: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Square root with a finite slope at zero: equal descriptors are common in a network that is just starting."""
    return (squared.clamp_min(0.0) + 1e-12).sqrt()
