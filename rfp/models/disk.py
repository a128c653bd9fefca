"""DISK (Tyszkiewicz et al., 2020) behind rfp's network interface: kornia's U-Net, descriptors read at points."""

import torch.nn.functional as F
from jaxtyping import Float
from kornia.feature import DISK
from torch import Tensor, nn

from rfp.models.sampling import sample_descriptors
from rfp.records import DenseFeatures

DISK_NAMES = ("disk",)

_STRIDE = 16  # the U-Net's coarsest level


class Disk(nn.Module):
    """DISK with kornia's layers and parameters: heat by a tempered softmax of its logits, dense descriptors.

    ``log f = logit / temperature``. DISK picks a pixel of a cell by softmax of the logits and accepts it with
    probability sigmoid(logit). Its trained logits go beyond 100 on photographs: there the log-sigmoid is 0 in float32
    and the order of key points is lost, and a softmax over the whole image would sit on one pixel. Dividing by a power
    of two keeps the order exactly, so the deployed detector is unchanged; with 32 the distribution chooses from about
    as many local maxima as DISK's acceptance probability and as ALIKED's heat do (benchmarks/disk_temperature.py).

    ``Disk()`` has random weights; `rfp.load_pretrained` returns the trained ones.
    """

    name = "disk"

    def __init__(self, temperature: float = 32.0):
        super().__init__()
        self.temperature = temperature
        self.network = DISK()

    def extract(self, images: Float[Tensor, "b 3 h w"]) -> DenseFeatures:
        """Tempered logits (b, h, w) and dense descriptors (b, 128, h, w), of any scale, of RGB images in [0, 1].

        Images are padded with zeros at the bottom and right to a multiple of 16, and the maps cropped back, as kornia
        does with ``pad_if_not_divisible``.
        """
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % _STRIDE, 0, -height % _STRIDE))
        logit, descriptors = self.network.heatmap_and_dense_descriptors(padded)
        return DenseFeatures(
            log_heat=logit[:, 0, :height, :width] / self.temperature,
            feature_map=descriptors[:, :, :height, :width],
        )

    def describe(self, features: DenseFeatures, xy_px: Float[Tensor, "b N 2"]) -> Float[Tensor, "b N D"]:
        """Unit-norm descriptors at the points: the dense descriptor of the pixel, bilinear between pixels."""
        height, width = features.log_heat.shape[-2:]
        return sample_descriptors(features.feature_map, xy_px, (height, width))
