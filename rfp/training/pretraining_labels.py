"""Key points that a teacher finds in an image under several homographies: what the detector is pretrained on.

Homographic adaptation (DeTone, Malisiewicz, Rabinovich, SuperPoint, 2018, section 5): what is found in one view only is
no good key point, and the mean over views says where the others are to a fraction of a pixel.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.color import rgb_to_grayscale
from kornia.feature import gftt_response
from kornia.geometry.linalg import transform_points
from torch import Tensor, nn

from rfp.data.homographies import HomographyOptions, homography_pairs_on_noise
from rfp.models.aliked import Aliked
from rfp.models.sampling import sample_pixels
from rfp.models.superpoint import SuperPoint

CORNERS = "corners"
"""The teacher that is no network: the smaller eigenvalue of the structure tensor."""
BORDER = 4
"""Pixels along the border of an image that hold no label."""
FAINTEST = 0.01
"""Heat below which nothing is a key point."""

HeatFunction = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b h w"]]
"""Images → heat in [0, 1] of each pixel."""


def heat_of_network(network: nn.Module) -> HeatFunction:
    """A network's heat for labelling: f itself where it is a probability of each pixel, as ALIKED's and SuperPoint's.

    Of other networks log f is known up to a constant, and the heat is relative to the image's strongest pixel.
    """
    absolute = isinstance(network, Aliked | SuperPoint)

    def heat(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        log_heat = network.extract(images).log_heat  # type: ignore[operator]
        return (log_heat if absolute else log_heat - log_heat.amax((1, 2), keepdim=True)).exp()

    return heat


def corner_heat(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """√(λ / λ_max), λ the smaller eigenvalue of the structure tensor (Shi and Tomasi, Good Features to Track, 1994).

    λ grows with the square of the contrast, which its root undoes; an image without any corner has no heat.
    """
    response = gftt_response(rgb_to_grayscale(images))[:, 0].clamp_min(0)
    return (response / response.amax((1, 2), keepdim=True).clamp_min(1e-9)).sqrt()


@torch.no_grad()
def adapted_heat(
    heat_of: HeatFunction, sources: Tensor, *, adaptations: int, generator: torch.Generator
) -> Float[Tensor, "b s s"]:
    """The mean heat of sources (b, 3, s, s) and of views of them, each brought back by its homography.

    Args:
        sources: uint8, or floating point in [0, 1].
        adaptations: Views, drawn two at a time; an odd number is rounded up.
        generator: On the device of the sources.
    """
    count, size = len(sources), sources.shape[-1]
    # One sample a pixel: these views change the scale little, and the teacher sees aliasing in photographs, too.
    views = HomographyOptions(
        image_size=(size, size), tilt_deg=30.0, roll_deg=15.0, scale=1.4, shift=0.1, supersampling=1
    )
    step = torch.arange(size, device=sources.device, dtype=torch.float32)
    pixels = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1).flatten(0, 1).expand(count, -1, -1)
    total = heat_of(sources if sources.is_floating_point() else sources / 255)
    seen = torch.ones_like(total)
    each = torch.arange(count, device=sources.device)
    for _ in range(math.ceil(adaptations / 2)):
        uniforms = torch.rand(count, 2, 8, generator=generator, device=sources.device)
        pairs = homography_pairs_on_noise(sources, each, uniforms, views)
        for image, inside, H in (
            (pairs.images1, pairs.inside1, pairs.H_source1),
            (pairs.images2, pairs.inside2, pairs.H_source2),
        ):
            heat = heat_of(image) * inside
            both = torch.stack([heat, inside.to(heat.dtype)], dim=1)
            back = sample_pixels(both, transform_points(H, pixels), outside="zeros").unflatten(1, (size, size))
            total, seen = total + back[..., 0], seen + back[..., 1]
    return total / seen


def key_points_of_heat(heat: Float[Tensor, "b h w"], count: int) -> Float[Tensor, "b count 3"]:
    """(x, y, heat) of the strongest local maxima, moved to the mean position of the heat in their 3×3 window.

    Where an image has fewer, the heat of the rest is 0.
    """
    padded = F.max_pool2d(heat[:, None], 5, stride=1, padding=2)[:, 0]
    peaks = torch.where((heat == padded) & (heat > FAINTEST), heat, 0.0)
    peaks[:, :BORDER] = peaks[:, -BORDER:] = 0
    peaks[:, :, :BORDER] = peaks[:, :, -BORDER:] = 0
    weight, index = peaks.flatten(1).topk(count)
    windows = F.unfold(heat[:, None], 3, padding=1).gather(2, index[:, None].expand(-1, 9, -1))
    windows = windows / windows.sum(1, keepdim=True).clamp_min(1e-9)
    step = torch.arange(9, device=heat.device)
    x = index % heat.shape[-1] + (windows * (step % 3 - 1)[:, None]).sum(1)
    y = index // heat.shape[-1] + (windows * (step // 3 - 1)[:, None]).sum(1)
    return torch.stack([x, y, weight], dim=-1)
