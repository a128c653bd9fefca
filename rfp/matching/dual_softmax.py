"""Matches by the dual softmax: how sure each image is of its choice, multiplied."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.matching.nearest_neighbours import ImageSize, masked_similarity, mutual_maxima, scored
from rfp.matching.scored_matches import ScoredMatches
from rfp.records import Features, InputError


def dual_softmax(similarity: Float[Tensor, "*B K1 K2"], *, temperature: float) -> Float[Tensor, "*B K1 K2"]:
    """p_ij = softmax_j(s_ij / τ) · softmax_i(s_ij / τ), and 0 where s is -inf (Rocco et al. 2018; LoFTR, eq. 1)."""
    finite = similarity > float("-inf")
    # A row without any valid column is a softmax over nothing: NaN. It gets a lowest number in place of -inf.
    logits = torch.where(finite, similarity / temperature, torch.finfo(similarity.dtype).min)
    return torch.where(finite, logits.softmax(dim=-1) * logits.softmax(dim=-2), 0.0)


@dataclass(frozen=True)
class DualSoftmax:
    """The pairs that are the largest of their row and column under the dual softmax, above a threshold: their score."""

    temperature: float = 0.05
    """τ of inner products of unit descriptors."""
    threshold: float = 0.1
    """The least probability of a match."""

    def __post_init__(self):
        if not 0.0 < self.temperature < math.inf:
            raise InputError(f"expected a temperature above 0, got {self.temperature}; 0.05 is usual")
        if not 0.0 <= self.threshold < 1.0:
            raise InputError(f"expected a threshold in [0, 1), got {self.threshold}; 0.1 is usual")

    def __call__(
        self,
        features1: Features,
        features2: Features,
        size1: ImageSize | None = None,
        size2: ImageSize | None = None,
    ) -> ScoredMatches:
        similarity = masked_similarity(features1.descriptor, features2.descriptor, features1.valid, features2.valid)
        probability = dual_softmax(similarity, temperature=self.temperature)
        index2, mutual = mutual_maxima(probability, features1.valid, features2.valid)
        score = probability.amax(dim=-1) if 0 not in probability.shape else probability.new_zeros(index2.shape)
        return scored(index2, score, mutual & (score > self.threshold))

    def __str__(self) -> str:
        return f"dual softmax at temperature {self.temperature:g}, above {self.threshold:g}"
