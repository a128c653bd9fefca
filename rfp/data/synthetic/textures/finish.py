"""What time and light do to every surface: uneven light, stains, chips, grain; and the range of values."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.noise import per_texture, smooth_noise, spectral_noise


def paint(
    canvas: Float[Tensor, "count 3 h w"], colour: Float[Tensor, "count 3 #h #w"], coverage: Float[Tensor, "count 1 h w"]
) -> Float[Tensor, "count 3 h w"]:
    """The canvas with a colour laid over it; coverage in [0, 1]."""
    return torch.lerp(canvas, colour.expand_as(canvas), coverage.expand_as(canvas))


def weather(image: Float[Tensor, "count 3 size size"], draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """The surface with stains, uneven light and grain."""
    count, size = image.shape[0], image.shape[-1]
    light, stain = smooth_noise(count, 2, size, draws, slope=1.6).split(1, 1)
    image = image * torch.exp(per_texture(draws.uniform(count, low=0.02, high=0.2)) * light)
    stained = ((stain - per_texture(draws.uniform(count, low=0.2, high=1.5))) * 2).clamp(0, 1)
    stained = stained * per_texture(draws.uniform(count, low=0.0, high=0.5))
    image = image * (1 - stained * (1 - draws.uniform(count, 3, 1, 1, low=0.3, high=0.9)))
    grain = spectral_noise(count, 1, size, draws, slope=draws.uniform(count, low=0.3, high=1.2))
    return image + per_texture(draws.log_uniform(count, low=0.01, high=0.08)) * grain


def expose(image: Float[Tensor, "count 3 size size"], draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """The values brought to a mean and a contrast drawn for each texture, inside [0, 1]."""
    count = image.shape[0]
    mean = image.mean((1, 2, 3), keepdim=True)
    centred = image - mean
    deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-4)
    contrast = per_texture(draws.uniform(count, low=0.13, high=0.24))
    level = per_texture(draws.uniform(count, low=0.36, high=0.58))
    return (centred * (contrast / deviation) + level).clamp(0, 1)
