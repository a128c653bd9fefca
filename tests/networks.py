"""A network of a few layers for the tests: trainable, quick, and good enough to match rendered scenes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, normalize

from rfp.records import DenseFeatures


class TinyTestNetwork(nn.Module):
    """Three convolutions at full resolution, a log heat map and ``dim`` descriptor channels: a FeatureNetwork.

    Seeded random filters describe small patches well enough for neighbouring views; the heat is the response of the
    first layer's filters, sharpened.
    """

    def __init__(self, *, dim: int = 32, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # a layer draws its first weights from the global generator
            self.patches = nn.Conv2d(3, 16, 7, padding=3, padding_mode="replicate", bias=False)
            self.descriptors = nn.Conv2d(16, dim, 5, padding=2, padding_mode="replicate", bias=False)
            self.heat = nn.Conv2d(16, 1, 3, padding=1, padding_mode="replicate")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
            # Filters without a mean see contrast and not brightness.
            self.patches.weight -= self.patches.weight.mean((1, 2, 3), keepdim=True)
            self.heat.weight.abs_()
            self.heat.bias.zero_()

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        patches = self.patches(images)
        log_heat = 8 * self.heat(patches.abs()).squeeze(1)
        return DenseFeatures(log_heat=log_heat, feature_map=self.descriptors(torch.relu(patches)))

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N D"]:
        height, width = features.feature_map.shape[-2:]
        grid = torch.stack([xy_px[..., 0] / (width - 1), xy_px[..., 1] / (height - 1)], dim=-1) * 2 - 1
        sampled = grid_sample(features.feature_map, grid[:, None], mode="bilinear", align_corners=True)
        return normalize(sampled.squeeze(2).transpose(1, 2), dim=-1)
