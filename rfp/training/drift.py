"""How far a network has moved from the one that a run began with: on a few fixed pairs, when validation is due."""

from collections.abc import Sequence

import torch
from torch.nn.functional import cosine_similarity

from rfp.models.state import device_of
from rfp.policy.divergence import divergence_from_start
from rfp.policy.keypoints import KeypointDistribution, KeypointOptions, keypoint_distribution, top_keypoints
from rfp.records import PosedPair
from rfp.reinforce.diagnostics import are_among
from rfp.rollout import FeatureNetwork, GroupedFeatures, extract_features

NUM_PAIRS = 4


def evenly_spaced(number: int) -> list[int]:
    """Four of so many, the first and the last among them; all of fewer."""
    return sorted({round(k * (number - 1) / (NUM_PAIRS - 1)) for k in range(NUM_PAIRS)})


class Drift:
    """What a network says about a few images at the start, to compare it with later."""

    @torch.no_grad()
    def __init__(self, network: FeatureNetwork, pairs: Sequence[PosedPair], options: KeypointOptions):
        """Remember what ``network`` is now, on four of the pairs, evenly spaced. It should be in eval mode."""
        chosen = evenly_spaced(len(pairs))
        device = device_of(network)  # type: ignore[arg-type]
        self.images = [image.to(device) for k in chosen for image in (pairs[k].image1, pairs[k].image2)]
        self.options = options
        features, self.distribution = self._looked_at(network)
        self.xy_px, _, self.valid = top_keypoints(self.distribution, options.num_keypoints)
        self.descriptors = features.describe(network, self.xy_px[:, None])

    @torch.no_grad()
    def __call__(self, network: FeatureNetwork) -> dict[str, float]:
        """Means over the images; all but the last are 0 for the network of the start, which is 1.

        - ``kl_start``: KL(start ‖ now) of the key-point policy in nats, over the candidates of either.
        - ``drift_start``: 1 - cos between the descriptors then and now, at the deployed key points of the start.
        - ``kept_keypoints``: the share of these key points that would still be deployed, on the very same pixel.
        """
        features, distribution = self._looked_at(network)
        kl = divergence_from_start(self.distribution, distribution, features.log_heat, self.options)
        moved = 1.0 - cosine_similarity(self.descriptors, features.describe(network, self.xy_px[:, None]), dim=-1)
        xy_px, _, valid = top_keypoints(distribution, self.options.num_keypoints)
        kept = are_among(self.xy_px, xy_px, valid)
        number = self.valid.sum().clamp_min(1)
        figures = {
            "kl_start": kl.mean().clamp_min(0.0),  # of itself: rounding alone
            "drift_start": (torch.where(self.valid, moved[:, 0], 0.0).sum() / number).clamp_min(0.0),
            "kept_keypoints": (kept & self.valid).sum() / number,
        }
        return dict(zip(figures, torch.stack(list(figures.values())).tolist(), strict=True))

    def _looked_at(self, network: FeatureNetwork) -> tuple[GroupedFeatures, KeypointDistribution]:
        features = extract_features(network, self.images)
        return features, keypoint_distribution(features.log_heat, features.sizes, self.options)
