"""The figures of one rollout that a training step logs: of its rewards and of the two policies that drew."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.reinforce.diagnostics import are_among, choice_statistics, draw_statistics, keypoint_statistics
from rfp.rollout import Rollout


@torch.no_grad()
def rollout_metrics(rolled: Rollout) -> dict[str, Float[Tensor, ""]]:
    """Scalars by name, on the device; the documentation's page on diagnostics says what each of them means."""
    policy, deployed = rolled.keypoint_policy, rolled.deployed
    drawn = [rolled.keypoints1, rolled.keypoints2]
    drawn_xy_px = torch.stack([each.xy_px for each in drawn], dim=1)
    drawn_deployed = are_among(drawn_xy_px.flatten(2, 3), deployed.xy_px, deployed.valid)
    return {
        **draw_statistics(rolled.reward, rolled.failed, rolled.valid),
        "candidates": rolled.matches.num_candidates.to(rolled.reward.dtype).mean(),
        **keypoint_statistics(
            policy.log_p,
            policy.valid,
            are_among(policy.xy_px, deployed.xy_px, deployed.valid),
            drawn_deployed.unflatten(2, drawn_xy_px.shape[2:4]),
            torch.stack([each.count for each in drawn], dim=1),
            rolled.valid,
        ),
        **choice_statistics(rolled.match_policy.log_p, rolled.match_policy.valid, rolled.valid, name="matches"),
    }
