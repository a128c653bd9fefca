"""From light to images: what each camera makes of the same scene."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.uniforms import Uniforms

UNIFORMS_PER_SENSOR = 16
MIDDLE_GREY = 0.22
"""The mean light of a pair is brought here before the exposures of its two images."""
EXPOSURE_STEP = 12
"""Every so many pixels are measured for that mean."""


@dataclass(frozen=True)
class Sensors:
    """The cameras' settings, drawn for each of the two images of B pairs."""

    gain: Float[Tensor, "B 2 3"]
    """Exposure times white balance."""
    vignetting: Float[Tensor, "B 2"]
    blur_px: Float[Tensor, "B 2"]
    noise: Float[Tensor, "B 2"]


def draw_sensors(options: SceneOptions, u: Uniforms) -> Sensors:
    """Settings by the options' ranges, each image by itself."""
    exposure = torch.exp2(options.exposure * u.between(-1.0, 1.0, 2))
    red, blue = (1 + options.white_balance * u.between(-1.0, 1.0, 2) for _ in range(2))
    return Sensors(
        gain=torch.stack((exposure * red, exposure, exposure * blue), dim=-1),
        vignetting=u.between(0.0, options.vignetting, 2),
        blur_px=u.between(*options.blur_px, 2),
        noise=u.between(*options.noise, 2),
    )


def expose(radiance: Float[Tensor, "B 2 3 h w"]) -> Float[Tensor, "B 2 3 h w"]:
    """The light of each pair scaled to a mean of ``MIDDLE_GREY``, both images by the same factor; in place."""
    sample = radiance[..., ::EXPOSURE_STEP, ::EXPOSURE_STEP]
    mean = sample.mean(dim=(1, 2, 3, 4), keepdim=True).clamp_(min=1e-4)
    return radiance.mul_(MIDDLE_GREY / mean)


def soften_edges(
    radiance: Float[Tensor, "V 3 h w"], surface: Float[Tensor, "V h w"] | Tensor
) -> Float[Tensor, "V 3 h w"]:
    """The light with pixels on the border of two surfaces mixed with their neighbours: half the stairs go.

    One ray a pixel sees either side of an edge; a real pixel sees a share of both.
    """
    across = torch.nn.functional.pad((surface[..., 1:] != surface[..., :-1]).to(radiance.dtype), (1, 1))
    down = torch.nn.functional.pad((surface[..., 1:, :] != surface[..., :-1, :]).to(radiance.dtype), (0, 0, 1, 1))
    edge = torch.maximum(
        torch.maximum(across[..., 1:], across[..., :-1]), torch.maximum(down[..., 1:, :], down[..., :-1, :])
    )
    half = edge.new_full((edge.shape[0], 1, 1, 1), 0.5)
    return torch.lerp(radiance, blurred(radiance, half, half), edge[:, None])


def blurred(
    images: Float[Tensor, "V 3 h w"], across: Float[Tensor, "V 1 1 1"], down: Float[Tensor, "V 1 1 1"]
) -> Float[Tensor, "V 3 h w"]:
    """The images under (1, e, 1)-like kernels (e, 1, e) / (1 + 2 e) across and down, the border repeated."""
    for dim, share in ((-1, across), (-2, down)):
        size, neighbours = images.shape[dim], torch.empty_like(images)
        for start, left, right, length in ((1, 0, 2, size - 2), (0, 0, 1, 1), (size - 1, size - 2, size - 1, 1)):
            one, other = images.narrow(dim, left, length), images.narrow(dim, right, length)
            torch.add(one, other, out=neighbours.narrow(dim, start, length))
        images = neighbours.mul_(share).add_(images).div_(1 + 2 * share)
    return images


def take_photographs(
    radiance: Float[Tensor, "B 2 3 h w"], sensors: Sensors, noise: Float[Tensor, "B 2 3 h w"]
) -> Float[Tensor, "B 2 3 h w"]:
    """Images in [0, 1]: gain, vignetting, point spread, the display's curve (a square root), noise.

    Args:
        noise: standard normal.
    """
    height, width = radiance.shape[-2:]
    gain = sensors.gain[..., None, None] * _falloff(sensors.vignetting, height, width)[:, :, None]
    exposed = (radiance * gain).flatten(0, 1)
    # The three-tap kernel (e, 1, e) of a point spread of σ: variance 2 e / (1 + 2 e) = σ², so e = σ² / (2 - 2 σ²).
    variance = sensors.blur_px.square().clamp(max=0.75).reshape(-1, 1, 1, 1)
    share = variance / (2 - 2 * variance)
    shown = blurred(exposed, share, share).clamp_(0, 1).sqrt_().reshape(radiance.shape)
    return shown.addcmul_(noise, sensors.noise[..., None, None, None]).clamp_(0, 1)


def _falloff(vignetting: Float[Tensor, "B 2"], height: int, width: int) -> Float[Tensor, "B 2 h w"]:
    """1 in the middle, 1 - vignetting in the corners, quadratic between."""
    x = (torch.arange(width, device=vignetting.device, dtype=vignetting.dtype) - (width - 1) / 2).square()
    y = (torch.arange(height, device=vignetting.device, dtype=vignetting.dtype) - (height - 1) / 2).square()
    corner = math.hypot(height - 1, width - 1) / 2
    return 1 - vignetting[..., None, None] * ((x + y[:, None]) / corner**2)
