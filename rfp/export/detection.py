"""The deployed detector on image files: key points in pixels of the images as stored, and matches between them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.images import read_image, resize_image
from rfp.matching.match import MatchingFunction, load_matcher
from rfp.records import Features, InputError, map_tensors
from rfp.rollout import FeatureNetwork, detect


@dataclass(frozen=True)
class DetectionOptions:
    """How key points are found in an image file."""

    image_size: int | None = 1024
    """Longer side to which an image is resized, up or down, for the network; None keeps the stored size."""
    num_keypoints: int = 2048
    """Key points an image."""
    nms_radius: int = 2
    """Radius of the non-maximum suppression in pixels of the resized image."""

    def __post_init__(self):
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"expected an image size of at least 1 pixel, got {self.image_size}; 1024 is usual")
        if self.num_keypoints < 1 or self.nms_radius < 0:
            raise InputError(
                "expected at least 1 key point an image and an NMS radius of at least 0, got "
                f"{self.num_keypoints} and {self.nms_radius}"
            )


@dataclass(frozen=True)
class DetectedFeatures:
    """The key points of one image file, best first, on the CPU."""

    size: tuple[int, int]
    """(width, height) of the image as stored."""
    xy_px: Float[Tensor, "K 2"]
    """Pixels of the image as stored, pixel (0, 0) being the centre of the top-left pixel."""
    score: Float[Tensor, "K"]
    """log P of the pixel under the policy's distribution."""
    descriptor: Float[Tensor, "K D"]
    uncertainty_px: float
    """One pixel of the resized image, in pixels of the stored one."""


@dataclass(frozen=True)
class FoundMatches:
    """The matches of two named images."""

    name1: str
    name2: str
    index: Int[Tensor, "M 2"]
    """Rows (key point of the first image, key point of the second), by rising key point of the first."""
    score: Float[Tensor, "M"]
    """The matcher's own, higher is better."""
    num_keypoints1: int
    """Key points of the first image, matched or not."""


def detect_file(
    network: FeatureNetwork, path: str | Path, options: DetectionOptions, *, device: torch.device
) -> DetectedFeatures:
    """What ``rfp.detect`` finds in an image file, in pixels of the file: ``(xy + ½) / scale - ½``.

    The pixels are taken as they are stored: an EXIF orientation turns nothing, as in COLMAP and hloc.

    Raises:
        InputError: the image cannot be read.
    """
    stored = read_image(path)
    image, scale = resize_image(stored, options.image_size)
    features = detect(
        network, image[None].to(device), num_keypoints=options.num_keypoints, nms_radius=options.nms_radius
    )
    # A network may overflow on an image that it has never seen the like of: what is not a number is in no file.
    found = features.valid[0] & features.descriptor[0].isfinite().all(dim=-1) & features.xy_px[0].isfinite().all(dim=-1)
    xy_px, score, descriptor = (
        values[0][found].float().cpu() for values in (features.xy_px, features.score, features.descriptor)
    )
    return DetectedFeatures(
        size=(stored.shape[-1], stored.shape[-2]),
        xy_px=(xy_px + 0.5) / torch.tensor(scale) - 0.5,
        score=score,
        descriptor=descriptor,
        uncertainty_px=sum(1 / each for each in scale) / 2,
    )


def match_pairs(
    pairs: Iterable[tuple[str, str]],
    read: Callable[[str], DetectedFeatures],
    *,
    device: torch.device,
    matcher: str | MatchingFunction = "mutual",
    network: str = "",
    cache_bytes: int = 512_000_000,
) -> Iterator[FoundMatches]:
    """The matches of each pair, one at a time; the features last used are kept, up to ``cache_bytes``.

    Args:
        network: The name of the network that the features come from; read by the matcher "lightglue" only.
    """
    matcher = load_matcher(matcher, network=network) if isinstance(matcher, str) else matcher
    cache: OrderedDict[str, DetectedFeatures] = OrderedDict()
    num_bytes = 0
    for name1, name2 in pairs:
        for name in (name1, name2):
            if name in cache:
                cache.move_to_end(name)
                continue
            cache[name] = read(name)
            num_bytes += cache[name].descriptor.nbytes
            while num_bytes > cache_bytes and len(cache) > 2:
                num_bytes -= cache.popitem(last=False)[1].descriptor.nbytes
        image1, image2 = cache[name1], cache[name2]
        (width1, height1), (width2, height2) = image1.size, image2.size
        found = matcher(_batch(image1, device), _batch(image2, device), (height1, width1), (height2, width2))
        chosen = found.valid[0].nonzero()[:, 0]
        index = torch.stack([chosen, found.index2[0][chosen]], dim=1)
        yield FoundMatches(name1, name2, index.cpu(), found.score[0][chosen].cpu(), len(image1.xy_px))


def _batch(image: DetectedFeatures, device: torch.device) -> Features:
    """As the matchers want them: a batch of one, nothing masked."""
    valid = torch.ones(1, len(image.xy_px), dtype=torch.bool)
    batch = Features(image.xy_px[None], image.score[None], image.descriptor[None], valid)
    return map_tensors(batch, lambda tensor: tensor.to(device))
