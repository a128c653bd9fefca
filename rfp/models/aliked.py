"""ALIKED (Zhao et al., 2023) behind rfp's network interface: kornia's layers, all points of all images in one pass."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.feature import ALIKED
from torch import Tensor, nn

from rfp.models.sampling import sample_pixels, unit_norm
from rfp.records import DenseFeatures

ALIKED_NAMES = ("aliked-t16", "aliked-n16", "aliked-n16rot", "aliked-n32")

_STRIDE = 32  # of the coarsest level: inputs are padded to a multiple of it


class Aliked(nn.Module):
    """ALIKED with kornia's layers and parameters: log-sigmoid heat, descriptors by the deformable head at any points.

    The detector's heat is f = sigmoid(logit), so that log f = log-sigmoid(logit) is finite for every logit; kornia's
    own score map is f itself, which is 0 or 1 in float32 for the logits of a confident network.

    ``Aliked(name)`` has random weights; `rfp.load_pretrained` returns the trained ones.
    """

    def __init__(self, name: str = "aliked-t16"):
        super().__init__()
        self.name = name
        self.network = ALIKED(name)

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """log-sigmoid heat (b, h, w) and the unit-norm feature map (b, D, h, w) of RGB images in [0, 1] of any size.

        Images are padded by repeating their edge, evenly on both sides, to a multiple of 32, and the maps are cropped
        back, as kornia does.
        """
        height, width = images.shape[-2:]
        extra_height, extra_width = -height % _STRIDE, -width % _STRIDE
        top, left = extra_height // 2, extra_width // 2
        padding = (left, extra_width - left, top, extra_height - top)
        levels = self._levels(F.pad(images, padding, mode="replicate"))
        logit = self.network.score_head(levels)[:, 0, top : top + height, left : left + width]
        feature_map = unit_norm(levels[:, :, top : top + height, left : left + width], dim=1)
        return DenseFeatures(log_heat=F.logsigmoid(logit), feature_map=feature_map)

    def _levels(self, images: Tensor) -> Tensor:
        """The four levels of the backbone, each reduced by a 1×1 convolution, at full resolution (b, D, h, w)."""
        net: Any = self.network
        stages = (
            (lambda x: x, net.block1, net.conv1, lambda x: x),
            (net.pool2, net.block2, net.conv2, net.upsample2),
            (net.pool4, net.block3, net.conv3, net.upsample8),
            (net.pool4, net.block4, net.conv4, net.upsample32),
        )
        level, reduced = images, []
        for pool, block, convolution, upsample in stages:
            level = block(pool(level))
            reduced.append(upsample(net.gate(convolution(level))))
        return torch.cat(reduced, dim=1)

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N D"]:
        """Unit-norm descriptors at the points, by the sparse deformable head (SDDH) for all images at once.

        A patch around each point gives P offsets Δ_p; the features at the points x + Δ_p pass a 1×1 convolution and
        SELU, and each has its own D×D matrix: d(x) = normalise(Σ_p W_p selu(A f(x + Δ_p))). Differentiable with
        respect to the network, not to the points' pixels.

        Paper: Zhao et al., ALIKED, IEEE TIM 2023, section III-C.
        """
        head: Any = self.network.desc_head
        height, width = features.feature_map.shape[-2:]
        limit = max(height, width) / 4  # of an offset, as the network was trained
        offset = self._offsets(features.feature_map, xy_px).clamp(-limit, limit)
        positions = xy_px[:, :, None, :] + offset
        sampled = sample_pixels(features.feature_map, positions.flatten(1, 2), outside="zeros")
        sampled = F.selu(sampled @ head.sf_conv.weight[:, :, 0, 0].T)
        # Σ_p over the positions and the D×D products are one product of a (P·D)-vector with a (P·D)×D matrix
        sampled = sampled.unflatten(1, (-1, head.n_pos)).flatten(2)
        return unit_norm(sampled @ head.agg_weights.flatten(0, 1), dim=-1)

    def _offsets(self, feature_map: Tensor, xy_px: Tensor) -> Tensor:
        """(b, N, P, 2) offsets in pixels, from the patch of each point."""
        head: Any = self.network.desc_head
        patches = _patches(feature_map, xy_px, head.kernel_size)
        first, _, last = head.offset_conv
        # convolutions whose output is 1×1 are matrix products; the patch is laid out as (pixel, channel)
        hidden = F.selu(patches @ first.weight.permute(2, 3, 1, 0).flatten(0, 2) + first.bias)
        offset = hidden @ last.weight[:, :, 0, 0].T + last.bias
        return offset.unflatten(-1, (2, head.n_pos)).transpose(-1, -2)

    def refine(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N 2"]:
        """The points moved to sub-pixel positions: the soft-argmax of the heat in the 5×5 window around each pixel.

        x + Σ_i r_i exp(f_i / 0.1) / Σ_i exp(f_i / 0.1) over the window's offsets r_i, with f = 0 outside the image
        (ALIKED's differentiable key-point detection, DKD). Points are rounded to their pixel first.
        """
        detector: Any = self.network.dkd
        height, width = features.log_heat.shape[-2:]
        centre = xy_px.round()
        tap = centre[:, :, None, :] + detector.hw_grid
        x, y = tap.unbind(-1)
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        index = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
        heat = features.log_heat.flatten(1).gather(1, index.flatten(1)).view_as(index).exp()
        weight = torch.softmax(torch.where(inside, heat, 0) / detector.temperature, dim=-1)
        return centre + weight @ detector.hw_grid


def _patches(feature_map: Tensor, xy_px: Tensor, size: int) -> Tensor:
    """(b, N, size·size·D) features of the size×size pixels around each point, pixel by pixel, rows first.

    Near the border the patch is moved inwards, and its far corner stays one pixel away from the last row and column:
    the trained weights know it so.
    """
    height, width = feature_map.shape[-2:]
    step = torch.arange(size, device=xy_px.device)

    def along(coordinate: Tensor, length: int) -> Tensor:
        corner = (coordinate.long() - size // 2).clamp(0, max(length - 1 - size, 0))
        return (corner[..., None] + step).clamp(max=length - 1)

    column, row = along(xy_px[..., 0], width), along(xy_px[..., 1], height)
    index = (row[..., :, None] * width + column[..., None, :]).flatten(1)
    pixels = feature_map.flatten(2).transpose(1, 2)
    taken = pixels.gather(1, index[..., None].expand(-1, -1, pixels.shape[-1]))
    return taken.unflatten(1, (-1, size * size)).flatten(2)
