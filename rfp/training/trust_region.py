"""What keeps a network near the one that training began with: penalties on how far key points and descriptors moved."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from rfp.policy.divergence import divergence_from_start, normalised_entropy
from rfp.policy.keypoints import keypoint_distribution
from rfp.records import InputError, PosedPair
from rfp.rollout import Rollout, RolloutOptions, extract_features


@dataclass(frozen=True)
class TrustRegionOptions:
    """Weights of the penalties on leaving the start; 0 leaves one out, and with it the start's forward pass."""

    keypoints: float = 0.0
    """On KL(start ‖ now) of the key-point distribution, in nats of one drawn key point ("kl_start" in the metrics)."""
    descriptors: float = 0.0
    """On the mean of 1 - cos of the start's and the present descriptors at the drawn key points ("drift_start")."""

    def __post_init__(self):
        for name in ("keypoints", "descriptors"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise InputError(f"expected trust.{name} of at least 0, got {getattr(self, name)}; 0 is off")

    @property
    def on(self) -> bool:
        """Whether anything is compared with the start."""
        return self.keypoints > 0.0 or self.descriptors > 0.0


class TrustRegion:
    """The network as it was at the start of the run, frozen beside the one that learns."""

    def __init__(self, network: nn.Module, options: TrustRegionOptions):
        """Copy ``network`` as it is now, in evaluation mode, on its device."""
        self.options = options
        self.start = copy.deepcopy(network).eval().requires_grad_(False)

    def penalty(
        self, rolled: Rollout, pairs: Sequence[PosedPair], options: RolloutOptions
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """(what is added to the loss, the two distances by name), means over the images of the valid pairs.

        One more forward pass, without a gradient, of the start on the same images. Stays on the device.

        Args:
            rolled: Of ``pairs`` as they are given here, augmented or not.
        """
        images = [pair.image1 for pair in pairs] + [pair.image2 for pair in pairs]
        xy_px = torch.cat([rolled.keypoints1.xy_px, rolled.keypoints2.xy_px]).detach()
        drawn = torch.cat([rolled.keypoints1.valid, rolled.keypoints2.valid])
        valid = rolled.valid.repeat(2)
        with torch.no_grad():
            features = extract_features(self.start, images, bfloat16=options.bfloat16)  # type: ignore[arg-type]
            distribution = keypoint_distribution(features.log_heat, features.sizes, options.keypoints)
            descriptors = features.describe(self.start, xy_px)  # type: ignore[arg-type]
        kl = divergence_from_start(distribution, rolled.distribution, rolled.features.log_heat, options.keypoints)
        moved = 1.0 - cosine_similarity(descriptors, rolled.descriptors, dim=-1)
        distances = {"kl_start": _mean(kl, valid), "drift_start": _mean(moved, drawn & valid[:, None, None])}
        weighted = self.options.keypoints * distances["kl_start"] + self.options.descriptors * distances["drift_start"]
        return weighted, {name: value.detach() for name, value in distances.items()}


def mean_entropy(rolled: Rollout) -> Float[Tensor, ""]:
    """The normalised entropy of the key-point distribution, its mean over the images of the valid pairs."""
    return _mean(normalised_entropy(rolled.distribution), rolled.valid.repeat(2))


def _mean(value: Float[Tensor, "..."], valid: Bool[Tensor, "..."]) -> Float[Tensor, ""]:
    return torch.where(valid, value, 0.0).sum() / valid.sum().clamp_min(1)
