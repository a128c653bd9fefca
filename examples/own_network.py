"""Train a network of your own: two methods, and the rest of rfp works on it.

    python examples/own_network.py data/castle

This one starts from random weights, so it learns next to nothing here: poses teach a network that already solves most
easy pairs. Load your trained weights first.
"""

import sys

import torch
from torch import nn

import rfp


class OwnNetwork(nn.Module):
    """A heat map for every pixel, and descriptors at a quarter of the resolution."""

    name = "own"

    def __init__(self, channels: int = 64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.SELU(), nn.Conv2d(32, channels, 3, padding=1))
        self.heat = nn.Conv2d(channels, 1, 1)
        self.descriptor = nn.Sequential(nn.AvgPool2d(4), nn.SELU(), nn.Conv2d(channels, channels, 3, padding=1))

    def extract(self, images):
        """Log heat, whose softmax over the image is the policy, and whatever ``describe`` reads."""
        features = self.trunk(images)
        return rfp.DenseFeatures(log_heat=self.heat(features)[:, 0], feature_map=self.descriptor(features))

    def describe(self, features, xy_px):
        """Unit descriptors at given points."""
        height, width = features.log_heat.shape[-2:]
        return rfp.sample_descriptors(features.feature_map, xy_px, (height, width))


torch.manual_seed(0)
network = OwnNetwork()
pairs = rfp.data.PosedPairs(sys.argv[1:], image_size=320)
summary = rfp.Trainer(network, rfp.TrainerOptions(steps=5, learning_rate=1e-4, log_every=1)).fit(
    pairs, on_step=lambda row: print(f"step {row['step']}  reward {row['reward']:.3f}  failed {row['failed']:.1%}")
)
print("AUC@5/10/20", rfp.evaluate(network, pairs).auc)
