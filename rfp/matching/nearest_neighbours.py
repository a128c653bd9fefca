"""Nearest neighbours of descriptors: the mutual ones, and those that stand out from the second nearest."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rfp.matching.scored_matches import ScoredMatches
from rfp.records import Features, InputError

ImageSize = tuple[int, int]
"""(height, width) in pixels of all the images of a batch."""


def mutual_nearest_neighbours(
    descriptors1: Float[Tensor, "*B K1 D"],
    descriptors2: Float[Tensor, "*B K2 D"],
    valid1: Bool[Tensor, "*B K1"],
    valid2: Bool[Tensor, "*B K2"],
) -> tuple[Int[Tensor, "*B K1"], Bool[Tensor, "*B K1"]]:
    """(index2, mutual): for each descriptor of image 1 its nearest in image 2, and whether the choice is mutual.

    Nearest by inner product, which for unit descriptors is nearest by distance. Not differentiable.
    """
    return mutual_maxima(masked_similarity(descriptors1, descriptors2, valid1, valid2), valid1, valid2)


def masked_similarity(
    descriptors1: Float[Tensor, "*B K1 D"],
    descriptors2: Float[Tensor, "*B K2 D"],
    valid1: Bool[Tensor, "*B K1"],
    valid2: Bool[Tensor, "*B K2"],
) -> Float[Tensor, "*B K1 K2"]:
    """Inner products of all pairs, -inf where either key point is masked. Detached."""
    similarity = descriptors1.detach() @ descriptors2.detach().transpose(-1, -2)
    return torch.where(valid1[..., :, None] & valid2[..., None, :], similarity, float("-inf"))


def mutual_maxima(
    values: Float[Tensor, "*B K1 K2"], valid1: Bool[Tensor, "*B K1"], valid2: Bool[Tensor, "*B K2"]
) -> tuple[Int[Tensor, "*B K1"], Bool[Tensor, "*B K1"]]:
    """(index2, mutual): the column of each row's largest value, and whether that is its column's largest too."""
    if 0 in values.shape[-2:]:
        return torch.zeros_like(valid1, dtype=torch.long), torch.zeros_like(valid1)
    index2 = values.argmax(dim=-1)
    index1 = values.argmax(dim=-2)
    returns = index1.gather(-1, index2) == torch.arange(index2.shape[-1], device=index2.device)
    return index2, returns & valid1 & valid2.gather(-1, index2)


def distinctive(
    similarity: Float[Tensor, "*B K1 K2"], index2: Int[Tensor, "*B K1"]
) -> tuple[Float[Tensor, "*B K1"], Float[Tensor, "*B K1"]]:
    """Distances ‖d_i - d'_j‖ = √(2 - 2 d_i·d'_j) to the neighbour ``index2`` and to the nearest of the others.

    Of unit descriptors; infinite where there is no other.
    """
    chosen = similarity.gather(-1, index2[..., None])
    others = similarity.scatter(-1, index2[..., None], float("-inf")).amax(dim=-1)
    return _distance(chosen.squeeze(-1)), _distance(others)


@dataclass(frozen=True)
class MutualNearestNeighbours:
    """Descriptors that are each other's nearest. The score is their inner product."""

    def __call__(
        self,
        features1: Features,
        features2: Features,
        size1: ImageSize | None = None,
        size2: ImageSize | None = None,
    ) -> ScoredMatches:
        similarity = _similarity(features1, features2)
        index2, mutual = mutual_maxima(similarity, features1.valid, features2.valid)
        score = _at(similarity, index2)
        return scored(index2, score, mutual)

    def __str__(self) -> str:
        return "mutual nearest neighbours"


@dataclass(frozen=True)
class RatioTest:
    """Mutual nearest neighbours, nearer than ``ratio`` times the second nearest (Lowe 2004, section 7.1), both ways.

    The score is 1 - nearest / second nearest, the smaller of the two directions'.
    """

    ratio: float = 0.9
    """0.8 is Lowe's, for SIFT; learned descriptors lie closer together and lose right matches at it."""

    def __post_init__(self):
        if not 0.0 < self.ratio <= 1.0:
            raise InputError(f"expected a ratio in (0, 1], got {self.ratio}; 0.9 is usual")

    def __call__(
        self,
        features1: Features,
        features2: Features,
        size1: ImageSize | None = None,
        size2: ImageSize | None = None,
    ) -> ScoredMatches:
        similarity = _similarity(features1, features2)
        index2, mutual = mutual_maxima(similarity, features1.valid, features2.valid)
        ratio = nearest_to_second(similarity, index2)
        return scored(index2, 1.0 - ratio, mutual & (ratio < self.ratio))

    def __str__(self) -> str:
        return f"mutual nearest neighbours, ratio test at {self.ratio:g}"


def nearest_to_second(similarity: Float[Tensor, "*B K1 K2"], index2: Int[Tensor, "*B K1"]) -> Float[Tensor, "*B K1"]:
    """Distance to the partner over distance to the nearest other, the larger of both directions.

    0 where there is no other in either image, 1 where the nearest two are the same (or nothing is valid).
    """
    if 0 in similarity.shape[-2:]:
        return similarity.new_ones(index2.shape)
    forth = _ratio(*distinctive(similarity, index2))
    transposed = similarity.transpose(-1, -2)
    back = _ratio(*distinctive(transposed, transposed.argmax(dim=-1)))
    return torch.maximum(forth, back.gather(-1, index2))


def scored(index2: Int[Tensor, "*B K1"], score: Float[Tensor, "*B K1"], valid: Bool[Tensor, "*B K1"]) -> ScoredMatches:
    """The record, zero under a false mask."""
    return ScoredMatches(torch.where(valid, index2, 0), torch.where(valid, score, 0.0), valid)


def _similarity(features1: Features, features2: Features) -> Float[Tensor, "B K1 K2"]:
    return masked_similarity(features1.descriptor, features2.descriptor, features1.valid, features2.valid)


def _at(values: Float[Tensor, "*B K1 K2"], index2: Int[Tensor, "*B K1"]) -> Float[Tensor, "*B K1"]:
    if values.shape[-1] == 0:
        return values.new_zeros(index2.shape)
    return values.gather(-1, index2[..., None]).squeeze(-1)


def _distance(similarity: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return (2.0 - 2.0 * similarity).clamp_min(0.0).sqrt()


def _ratio(nearest: Float[Tensor, "..."], second: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    # 1 where nearest and second coincide at 0, and where both are infinite: nothing stands out there.
    stands_out = nearest < second
    return torch.where(stands_out, nearest / torch.where(stands_out, second, 1.0), 1.0)
