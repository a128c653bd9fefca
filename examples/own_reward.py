"""Train on a reward of your own: any function of the estimate, the matches and the truth. It is never differentiated.

    python examples/own_reward.py data/castle

Here: the rotation alone, in steps of a degree, and a little for every inlier.
"""

import sys

import torch

import rfp


class RotationSteps:
    """Minus the rotation error in whole degrees over 45; a staircase has no gradient, and needs none."""

    def __call__(self, result, correspondences, truth):
        """The reward of each problem: (pairs, draws of key points, draws of matches)."""
        rotation, _ = rfp.relative_pose_error(
            result.R,
            result.t,
            truth.R.expand_as(result.R),
            truth.t.expand_as(result.t),
            fold_translation=False,
        )
        degrees = torch.where(result.valid, rotation.rad2deg().floor(), 180.0)
        return -degrees / 45.0


network = rfp.load_pretrained("aliked-t16")
pairs = rfp.data.PosedPairs(sys.argv[1:], image_size=320)
reward = rfp.compose([(1.0, RotationSteps()), (0.1, rfp.InlierReward(per=100.0))])
options = rfp.TrainerOptions(steps=5, pairs_per_step=2, log_every=1)
rfp.Trainer(network, options, reward=reward).fit(
    pairs, on_step=lambda row: print(f"step {row['step']}  reward {row['reward']:.3f}  failed {row['failed']:.1%}")
)
