"""Frozen dataclasses of tensors that two or more rooms of rfp share.

Letters of dimensions, the same everywhere: ``B`` pairs, ``S`` draws of key points (n_X of the paper), ``T`` draws of
matches for each of them (n_M), ``K`` key points, ``M`` matches, ``N`` points of a call, ``D`` descriptor, ``h w``
image.

A failure is a mask: never a NaN, an exception or a shorter tensor. Values under a false mask are finite.
"""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

Record = TypeVar("Record")


def map_tensors(record: Record, function) -> Record:
    """The same record with ``function`` applied to each of its tensors (to move, detach or index all of them).

    The tensors of records within it are among them.
    """
    changes = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = function(value)
        elif dataclasses.is_dataclass(value):
            changes[field.name] = map_tensors(value, function)
    return dataclasses.replace(record, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class PosedPair:
    """Two images of one scene and the true pose between their cameras: ``X2 = R @ X1 + t``.

    The images may differ in size; images are RGB in [0, 1].
    """

    image1: Float[Tensor, "3 h1 w1"]
    image2: Float[Tensor, "3 h2 w2"]
    K1: Float[Tensor, "3 3"]
    """Pixels of ``image1`` as it is here (resized), pixel (0, 0) being the centre of the top-left pixel."""
    K2: Float[Tensor, "3 3"]
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]
    """In any scale: only its direction is used, unless there is depth, whose unit it then has."""
    scene: str = ""
    name: str = ""
    """What an error message calls this pair."""
    depth1: Float[Tensor, "h1 w1"] | None = None
    """Along the optical axis at the centres of the pixels of ``image1``; not above 0 where it is unknown."""
    depth2: Float[Tensor, "h2 w2"] | None = None

    def to(self, device) -> "PosedPair":
        return map_tensors(self, lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class TwoViewGeometry:
    """The cameras and true poses of B pairs, which the rewards compare with."""

    K1: Float[Tensor, "*B 3 3"]
    K2: Float[Tensor, "*B 3 3"]
    R: Float[Tensor, "*B 3 3"]
    t: Float[Tensor, "*B 3"]
    valid: Bool[Tensor, "*B"]
    """False for a pair whose input is unusable (NaN in an image, say): it is left out with all its draws."""
    depth1: Float[Tensor, "*B h w"] | None = None
    """Of images 1, padded to one size with zeros, which stand for unknown; None unless every pair has depth."""
    depth2: Float[Tensor, "*B h w"] | None = None


@dataclass(frozen=True)
class DenseFeatures:
    """What a network says about b images of one size, before any key point is chosen."""

    log_heat: Float[Tensor, "b h w"]
    """log f at each pixel, up to a constant: P(x) = softmax of it over the image."""
    feature_map: Float[Tensor, "b c hf wf"]
    """Whatever the network's own ``describe`` reads; its scale is the network's affair."""


@dataclass(frozen=True)
class Keypoints:
    """K slots of key points for each of S draws, and the log-probability of each draw.

    Draws with replacement keep the first slot of each distinct pixel and carry its ``count``; the other slots are
    masked. Draws without replacement have counts of one and may end early (fewer than K candidates).
    """

    xy_px: Float[Tensor, "*B S K 2"]
    count: Int[Tensor, "*B S K"]
    valid: Bool[Tensor, "*B S K"]
    log_prob: Float[Tensor, "*B S"]
    log_inclusion: Float[Tensor, "*B S K"]
    """log P that the key point of each slot is among the draws at all, given the best that is not; 0 where masked."""


@dataclass(frozen=True)
class Matches:
    """M slots of distinct matches for each of T draws, ordered by the key point of image 1, with their log-probability.

    ``index1`` and ``index2`` point into the K slots of the draws of key points; ``count`` says how often a match was
    drawn and weights both sampling and scoring in the estimator.
    """

    index1: Int[Tensor, "*B S T M"]
    index2: Int[Tensor, "*B S T M"]
    count: Int[Tensor, "*B S T M"]
    valid: Bool[Tensor, "*B S T M"]
    log_prob: Float[Tensor, "*B S T"]
    num_candidates: Int[Tensor, "*B S"]
    """How many candidate matches the draws chose from."""


@dataclass(frozen=True)
class MatchExpectation:
    """A reward that adds over matches, a(M) = the mean of their values, or their sum per slot: drawn, and expected.

    V is 1 where the values depend on no draw of matches, and T where set t was made for draw t.
    """

    sampled: Float[Tensor, "*B S V T"]
    """a of each draw under each set of values. Detached."""
    expected: Float[Tensor, "*B S V"]
    """E[a | X] under each set, exactly; differentiable in the descriptors, and in the values where they are."""


@dataclass(frozen=True)
class Correspondences:
    """Matched points of a batch of two-view problems, as a task's estimator receives them. Detached."""

    xy1_px: Float[Tensor, "*B M 2"]
    xy2_px: Float[Tensor, "*B M 2"]
    x1: Float[Tensor, "*B M 2"]
    """Normalised: (x1, 1) = K1⁻¹ (u, v, 1)."""
    x2: Float[Tensor, "*B M 2"]
    weight: Float[Tensor, "*B M"]
    """The count of each match; zero where it is masked."""
    valid: Bool[Tensor, "*B M"]
    K1: Float[Tensor, "*B 3 3"]
    K2: Float[Tensor, "*B 3 3"]


@dataclass(frozen=True)
class RelativePose:
    """Estimated relative poses ``X2 = R @ X1 + t``, ‖t‖ = 1. Where ``valid`` is false: R = I, t = (0, 0, 1), E = 0."""

    R: Float[Tensor, "*B 3 3"]
    t: Float[Tensor, "*B 3"]
    E: Float[Tensor, "*B 3 3"]
    inliers: Bool[Tensor, "*B N"]
    score: Float[Tensor, "*B"]
    """Higher is better; comparable only between estimates from the same points and threshold."""
    valid: Bool[Tensor, "*B"]


@dataclass(frozen=True)
class Homography:
    """Estimated homographies ``x2 ~ H x1``, ‖H‖ = 1, w > 0 at the inliers. Where ``valid`` is false: H = I / √3."""

    H: Float[Tensor, "*B 3 3"]
    inliers: Bool[Tensor, "*B N"]
    score: Float[Tensor, "*B"]
    """Higher is better; comparable only between estimates from the same points and threshold."""
    valid: Bool[Tensor, "*B"]


@dataclass(frozen=True)
class FundamentalMatrix:
    """Estimated fundamental matrices, ``x2ᵀ F x1 = 0``, of rank 2 and ‖F‖ = 1. Where ``valid`` is false: F = 0."""

    F: Float[Tensor, "*B 3 3"]
    inliers: Bool[Tensor, "*B N"]
    score: Float[Tensor, "*B"]
    """Higher is better; comparable only between estimates from the same points and threshold."""
    valid: Bool[Tensor, "*B"]
    """False as well where the inliers do not determine F, as those of a plane do not."""


@dataclass(frozen=True)
class AbsolutePose:
    """Estimated poses of cameras: ``(x, 1) ~ R @ X + t``, depths positive. Where ``valid`` is false: R = I, t = 0."""

    R: Float[Tensor, "*B 3 3"]
    t: Float[Tensor, "*B 3"]
    """In units of the points X. The camera stands at ``-Rᵀ t``."""
    inliers: Bool[Tensor, "*B N"]
    score: Float[Tensor, "*B"]
    """Higher is better; comparable only between estimates from the same points and threshold."""
    valid: Bool[Tensor, "*B"]


@dataclass(frozen=True)
class Features:
    """What the deployed detector returns for B images: at most K key points each, best first."""

    xy_px: Float[Tensor, "B K 2"]
    score: Float[Tensor, "B K"]
    """log P of the pixel under the policy's distribution."""
    descriptor: Float[Tensor, "B K D"]
    valid: Bool[Tensor, "B K"]


class InputError(ValueError):
    """Bad input: one line saying what was expected, what was found and what to do."""
