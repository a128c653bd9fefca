"""rfp's own small network: a stride-2 stem, a pyramid down to 1/16, a map of descriptors and heat for each pixel."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rfp.models.sampling import sample_descriptors
from rfp.records import DenseFeatures

_STRIDE = 16  # of the coarsest level: inputs are padded to a multiple of it
_DESCRIPTOR_STRIDE = 4
_WINDOW = 2  # pixels to each side of a key point that its sub-pixel step looks at


class Tiny(nn.Module):
    """A key-point network for CPUs and for experiments: half a million parameters, 64-d descriptors, sub-pixel.

    The heat map has the resolution of the image although no convolution runs there: the head works at half of it and
    gives each cell its 2×2 pixels. log f is the head's output as it is: the network was pretrained with
    P = softmax(log f) over the image, which is the policy's.

    ``Tiny()`` has random weights; ``rfp.load_pretrained("tiny")`` returns the trained ones.

    Example:
        >>> import torch
        >>> features = Tiny().extract(torch.rand(1, 3, 48, 70))
        >>> features.log_heat.shape
        torch.Size([1, 48, 70])
    """

    name = "tiny"

    def __init__(self, *, batch_norm: bool = False):
        """Build the layers.

        Args:
            batch_norm: Normalise after each convolution, to pretrain from random weights; ``without_batch_norm`` then
                gives the network that the weights are shipped for.
        """
        super().__init__()
        widths = (16, 32, 64, 80)
        self.stem = _convolution(3, widths[0], size=4, stride=2, batch_norm=batch_norm)
        self.level1 = _Residual(widths[0], batch_norm)
        self.down2 = _convolution(widths[0], widths[1], size=2, stride=2, batch_norm=batch_norm)
        self.level2 = nn.Sequential(_Residual(widths[1], batch_norm), _Residual(widths[1], batch_norm))
        self.down3 = _convolution(widths[1], widths[2], size=2, stride=2, batch_norm=batch_norm)
        self.level3 = nn.Sequential(_Residual(widths[2], batch_norm), _Residual(widths[2], batch_norm))
        self.down4 = _convolution(widths[2], widths[3], size=2, stride=2, batch_norm=batch_norm)
        self.level4 = _Residual(widths[3], batch_norm)

        dimension = 64
        self.lateral2 = nn.Conv2d(widths[1], dimension, 1)
        self.lateral3 = nn.Conv2d(widths[2], dimension, 1)
        self.lateral4 = nn.Conv2d(widths[3], dimension, 1)
        self.fuse3 = _convolution(dimension, dimension, batch_norm=batch_norm)
        self.fuse2 = _convolution(dimension, dimension, batch_norm=batch_norm)
        self.descriptors = nn.Conv2d(dimension, dimension, 1)

        self.heat_context = nn.Conv2d(dimension, widths[0], 1)
        self.heat1 = _convolution(2 * widths[0], 32, batch_norm=batch_norm)
        self.heat2 = _convolution(32, 16, batch_norm=batch_norm)
        self.heat = nn.Conv2d(16, 4, 1)

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """log f (b, h, w) and the descriptor map at a quarter of the resolution, of RGB images in [0, 1] of any size.

        Images are padded by repeating their right and bottom edge to a multiple of 16; the heat map is cropped back.
        """
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        half = self.level1(self.stem(2 * padded - 1))
        quarter = self.level2(self.down2(half))
        eighth = self.level3(self.down3(quarter))
        sixteenth = self.level4(self.down4(eighth))
        context = self.fuse3(self.lateral3(eighth) + _doubled(self.lateral4(sixteenth)))
        context = self.fuse2(self.lateral2(quarter) + _doubled(context))
        heat = torch.cat([half, _doubled(self.heat_context(context))], dim=1)
        heat = F.pixel_shuffle(self.heat(self.heat2(self.heat1(heat))), 2)
        return DenseFeatures(log_heat=heat[:, 0, :height, :width], feature_map=self.descriptors(context))

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N 64"]:
        """Unit-norm descriptors at the points, read bilinearly. Differentiable with respect to the network."""
        rows, columns = features.feature_map.shape[-2:]
        padded_size = (rows * _DESCRIPTOR_STRIDE, columns * _DESCRIPTOR_STRIDE)
        return sample_descriptors(features.feature_map, xy_px, padded_size)

    def refine(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N 2"]:
        """The points moved to the mean position of P in the 5×5 window around each pixel.

        x + Σ_i r_i f_i / Σ_i f_i over the window's offsets r_i inside the image. The pretraining spreads a key point
        over the four pixels around it by bilinear weights, whose mean position it is.
        """
        height, width = features.log_heat.shape[-2:]
        step = torch.arange(-_WINDOW, _WINDOW + 1, device=xy_px.device, dtype=xy_px.dtype)
        offset = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1).flatten(0, 1)
        centre = xy_px.round()
        x, y = (centre[:, :, None, :] + offset).unbind(-1)
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        index = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
        log_heat = features.log_heat.flatten(1).gather(1, index.flatten(1)).view_as(index)
        weight = torch.softmax(torch.where(inside, log_heat, float("-inf")), dim=-1)
        return centre + weight @ offset

    def without_batch_norm(self) -> "Tiny":
        """The same function with each batch norm folded into the convolution before it, in eval mode."""
        plain = copy.deepcopy(self).eval()
        for block in plain.modules():
            if isinstance(block, _Convolution) and isinstance(block.norm, nn.BatchNorm2d):
                block.convolution = fuse_conv_bn_eval(block.convolution, block.norm)
                block.norm = nn.Identity()
        return plain


class _Convolution(nn.Module):
    """Convolution, batch norm or nothing, ReLU or nothing."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, batch_norm: bool, relu: bool):
        super().__init__()
        # An even kernel of an even stride keeps the cells of the smaller map centred on the pixels they stand for.
        padding = (size - stride) // 2 if stride > 1 else size // 2
        self.convolution = nn.Conv2d(inputs, outputs, size, stride, padding, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        return F.relu(x) if self.relu else x


def _convolution(
    inputs: int, outputs: int, *, size: int = 3, stride: int = 1, batch_norm: bool, relu: bool = True
) -> _Convolution:
    return _Convolution(inputs, outputs, size, stride, batch_norm, relu)


class _Residual(nn.Module):
    """relu(x + conv(relu(conv(x))))."""

    def __init__(self, width: int, batch_norm: bool):
        super().__init__()
        self.first = _convolution(width, width, batch_norm=batch_norm)
        self.second = _convolution(width, width, batch_norm=batch_norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _doubled(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
