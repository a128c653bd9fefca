"""The figures of one rollout that a training step logs: of its rewards and of the two policies that drew."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.policy.keypoints import KeypointOptions, keypoint_distribution, top_keypoints
from rfp.reinforce.diagnostics import are_among, choice_statistics, draw_statistics, keypoint_statistics
from rfp.rollout import Rollout


@torch.no_grad()
def rollout_metrics(rolled: Rollout, options: KeypointOptions) -> dict[str, Float[Tensor, ""]]:
    """Scalars by name, on the device; the documentation's page on diagnostics says what each of them means.

    Args:
        options: By which the key points were drawn.
    """
    deployed = deployed_keypoints(rolled, options)
    drawn_xy_px = torch.cat([rolled.keypoints1.xy_px, rolled.keypoints2.xy_px])
    drawn_deployed = are_among(drawn_xy_px.flatten(1, 2), *deployed).unflatten(1, drawn_xy_px.shape[1:3])
    return {
        **draw_statistics(rolled.reward, rolled.failed, rolled.valid),
        "candidates": rolled.matches.num_candidates.to(rolled.reward.dtype).mean(),
        **keypoint_statistics(
            _by_pair(rolled.distribution.log_p),
            _by_pair(rolled.distribution.valid),
            _by_pair(are_among(rolled.distribution.xy_px, *deployed)),
            _by_pair(drawn_deployed),
            torch.stack([rolled.keypoints1.count, rolled.keypoints2.count], dim=1),
            rolled.valid,
        ),
        **choice_statistics(*rolled.match_policy.choices(), rolled.valid, name="matches"),
    }


def deployed_keypoints(rolled: Rollout, options: KeypointOptions) -> tuple[Float[Tensor, "b K 2"], Bool[Tensor, "b K"]]:
    """(xy_px, valid) of what ``rfp.detect`` takes by default in each image, as many as the policy draws."""
    distribution, usual = rolled.distribution, KeypointOptions()
    if (options.nms_radius, options.border) != (usual.nms_radius, usual.border):
        options = replace(options, nms_radius=usual.nms_radius, border=usual.border)
        distribution = keypoint_distribution(rolled.features.log_heat, rolled.features.sizes, options)
    xy_px, _, valid = top_keypoints(distribution, options.num_keypoints)
    return xy_px, valid


def _by_pair(of_images: Tensor) -> Tensor:
    """(2 B, …), all images 1 before all images 2, as (B, 2, …)."""
    return of_images.unflatten(0, (2, -1)).transpose(0, 1)
