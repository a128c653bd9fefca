"""SuperPoint (DeTone et al., 2018): a VGG-style encoder to 1/8, key points by a softmax in each cell of 8×8 pixels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rfp.models.sampling import sample_descriptors, unit_norm
from rfp.records import DenseFeatures

SUPERPOINT_NAMES = ("superpoint", "superpoint-open")

_STRIDE = 8  # one cell of the heads
_WIDTHS = (64, 64, 128, 128)  # of the encoder's four levels, two convolutions each
_HIDDEN, _DESCRIPTOR = 256, 256
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601: what OpenCV calls grey, which both public networks were trained on


class SuperPoint(nn.Module):
    """SuperPoint as published: 1.3 million parameters, 256-d descriptors at 1/8, grey input.

    Each cell of 8×8 pixels has 65 logits, one a pixel and a dustbin for "no key point here". log f of a pixel is its
    log-softmax among the 65 of its cell; the dustbin is dropped afterwards, so that a cell without key points has
    little heat anywhere.

    There are two: ``superpoint``, without batch norm, is Magic Leap's; ``superpoint-open``, with batch norm after each
    ReLU, is rpautrat/SuperPoint's. The statistics of the batch norms are constants here, in training mode too; their
    scales and shifts are trained. rfp holds no weights of either: `rfp.load_network` reads both projects' files.

    Paper: DeTone, Malisiewicz, Rabinovich, SuperPoint, CVPR Workshops 2018, section 3.

    Example:
        >>> import torch
        >>> features = SuperPoint().extract(torch.rand(1, 3, 48, 70))
        >>> features.log_heat.shape, features.feature_map.shape
        (torch.Size([1, 48, 70]), torch.Size([1, 256, 6, 9]))
    """

    def __init__(self, *, batch_norm: bool = False):
        """Build the layers, with random weights.

        Args:
            batch_norm: ``superpoint-open``, or else ``superpoint``.
        """
        super().__init__()
        self.name = SUPERPOINT_NAMES[1] if batch_norm else SUPERPOINT_NAMES[0]
        inputs = (1, *_WIDTHS)
        self.encoder = nn.ModuleList(
            _Convolution(inputs[level + second], width, batch_norm=batch_norm)
            for level, width in enumerate(_WIDTHS)
            for second in (0, 1)
        )
        self.detector = _head(_WIDTHS[-1], _STRIDE**2 + 1, batch_norm)
        self.descriptor = _head(_WIDTHS[-1], _DESCRIPTOR, batch_norm)

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """Log f (b, h, w) and unit descriptors (b, 256, ⌈h/8⌉, ⌈w/8⌉) of RGB images in [0, 1] of any size.

        Grey is 0.299 R + 0.587 G + 0.114 B. Images are padded by repeating their right and bottom edge to a multiple
        of 8, and the heat map is cropped back. The public networks accept multiples of 8 only, which are not changed.
        """
        height, width = images.shape[-2:]
        red, green, blue = images.split(1, dim=1)
        grey = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
        level = F.pad(grey, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        for number, convolution in enumerate(self.encoder):
            if number in (2, 4, 6):
                level = F.max_pool2d(level, 2)
            level = convolution(level)
        log_prob = torch.log_softmax(self.detector(level), dim=1)
        log_heat = F.pixel_shuffle(log_prob[:, :-1], _STRIDE)  # the dustbin is the last channel
        return DenseFeatures(
            log_heat=log_heat[:, 0, :height, :width], feature_map=unit_norm(self.descriptor(level), dim=1)
        )

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N 256"]:
        """Unit-norm descriptors at the points, bilinear between the centres of the cells, 8 i + 3.5.

        As rpautrat's. Magic Leap's demonstration stretches the map a little, so that the first and last centres lie at
        the image's edges; the difference is below half a cell.
        """
        rows, columns = features.feature_map.shape[-2:]
        return sample_descriptors(features.feature_map, xy_px, (rows * _STRIDE, columns * _STRIDE))


class _Convolution(nn.Module):
    """Convolution, ReLU or nothing, batch norm or nothing: in this order, as the public weights were trained."""

    def __init__(self, inputs: int, outputs: int, *, size: int = 3, batch_norm: bool, relu: bool = True):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2)
        self.relu = relu
        self.norm = _FrozenStatistics(outputs, eps=1e-3) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return self.norm(F.relu(x) if self.relu else x)


class _FrozenStatistics(nn.BatchNorm2d):
    """A batch norm that never looks at its batch: a batch of a few pairs would spoil what a large training found."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def _head(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    return nn.Sequential(
        _Convolution(inputs, _HIDDEN, batch_norm=batch_norm),
        _Convolution(_HIDDEN, outputs, size=1, batch_norm=batch_norm, relu=False),
    )
