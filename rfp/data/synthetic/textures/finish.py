"""What time and light do to every surface: uneven light, stains, grain; and the range of its values."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.noise import smooth_noise, spectral_noise


def paint(
    canvas: Float[Tensor, "count 3 h w"], colour: Float[Tensor, "count 3 #h #w"], coverage: Float[Tensor, "count 1 h w"]
) -> Float[Tensor, "count 3 h w"]:
    """The canvas with a colour laid over it; coverage in [0, 1]."""
    return torch.lerp(canvas, colour.expand_as(canvas), coverage.expand_as(canvas))


def soften(image: Float[Tensor, "count 3 size size"], draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """The image mixed with its mean over neighbours: cells meet without jagged borders, some textures are soft."""
    weight = draws.uniform(image.shape[0], 1, 1, 1, low=0.04, high=0.18)
    for axis in (-1, -2):
        image = torch.lerp(image, image.roll(1, axis) + image.roll(-1, axis) - image, weight)
    return image


def weather(image: Float[Tensor, "count 3 size size"], draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """The surface with stains, uneven light and grain."""
    count, size = image.shape[0], image.shape[-1]
    light, stain = smooth_noise(count, 2, size, draws, slope=1.6).split(1, 1)
    stained = (2 * (stain - draws.uniform(count, 1, 1, 1, low=0.2, high=2.5))).clamp(0, 1)
    stained = stained * draws.uniform(count, 1, 1, 1, high=0.5)
    light = 1 + draws.uniform(count, 1, 1, 1, low=0.02, high=0.18) * light
    grain = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=0.4, high=1.2))
    grain = draws.log_uniform(count, 1, 1, 1, low=0.005, high=0.035) * grain
    absorbed = draws.uniform(count, 1, 1, 1, low=0.1, high=0.6) + draws.uniform(count, 3, 1, 1, high=0.2)
    return image * (light - stained * absorbed) + grain


def expose(image: Float[Tensor, "count 3 size size"], draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """The values brought to a mean and a contrast drawn for each texture, inside [0, 1].

    The gain is bounded: what has little contrast of its own is mostly grain, which should not be all that is seen.
    Colourfulness is not raised with the contrast.
    """
    count = image.shape[0]
    grey = image.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    deviation = (grey - mean).square().mean((2, 3), keepdim=True).clamp_min(1e-8).sqrt()
    gain = (draws.uniform(count, 1, 1, 1, low=0.13, high=0.24) / deviation).clamp_max(2.5)
    level = draws.uniform(count, 1, 1, 1, low=0.36, high=0.56)
    colour_gain = gain.clamp_max(1.2)
    return (image * colour_gain + (grey * (gain - colour_gain) + (level - mean * gain))).clamp(0, 1)
