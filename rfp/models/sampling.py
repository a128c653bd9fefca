"""Reading a map at points: one convention for every network, pixel (0, 0) being the centre of the top-left pixel."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def sample_descriptors(
    feature_map: Float[Tensor, "b D hf wf"], xy_px: Float[Tensor, "b N 2"], image_size: tuple[int, int]
) -> Float[Tensor, "b N D"]:
    """Unit-norm descriptors at points of the image, read bilinearly from a feature map of any stride.

    The map is taken to cover the image edge to edge: with s = w / wf, the cell (i, j) stands for the pixels
    [i s, (i + 1) s), so that its centre lies at the pixel (i + ½) s - ½. That is what pooling by s gives; a 3×3
    convolution of stride s with padding 1 instead centres its cells on the pixels i s. At stride 1 a point at integer
    pixels reads its own cell. Beyond the outermost centres the border is repeated. Differentiable with respect to the
    map and, piecewise, to the points.

    Args:
        feature_map: of any scale; each descriptor is divided by its norm.
        image_size: (height, width) of the image that the points belong to.

    Example:
        >>> import torch
        >>> descriptor = sample_descriptors(torch.rand(1, 8, 30, 40), torch.rand(1, 5, 2) * 200, (240, 320))
        >>> descriptor.shape
        torch.Size([1, 5, 8])
    """
    height, width = image_size
    rows, columns = feature_map.shape[-2:]
    x = (xy_px[..., 0] + 0.5) * (columns / width) - 0.5
    y = (xy_px[..., 1] + 0.5) * (rows / height) - 0.5
    return unit_norm(sample_pixels(feature_map, torch.stack([x, y], dim=-1), outside="border"), dim=-1)


def sample_pixels(
    values: Float[Tensor, "b c h w"], xy: Float[Tensor, "b N 2"], *, outside: Literal["border", "zeros"]
) -> Float[Tensor, "b N c"]:
    """Values of a map at points in its own cells, (0, 0) being the centre of the first, read bilinearly."""
    height, width = values.shape[-2:]
    # align_corners: -1 and 1 are the centres of the outermost cells, so a point (x, y) is 2 x / (w - 1) - 1
    grid = torch.stack([2 * xy[..., 0] / max(width - 1, 1) - 1, 2 * xy[..., 1] / max(height - 1, 1) - 1], dim=-1)
    sampled = F.grid_sample(values, grid[:, :, None], mode="bilinear", padding_mode=outside, align_corners=True)
    return sampled[..., 0].transpose(1, 2)


def unit_norm(vectors: Tensor, dim: int) -> Tensor:
    """The vectors along ``dim`` divided by their norm, finite in value and gradient where a vector is zero.

    x · rsqrt(max(xᵀx, 1e-24)) is torch.nn.functional.normalize with about half of its backward pass: a dense map is
    divided once, by a map of one channel.
    """
    return vectors * (vectors * vectors).sum(dim, keepdim=True).clamp_min(1e-24).rsqrt()
