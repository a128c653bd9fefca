"""Colours as photographs have them: mostly muted, mostly between warm and cool, one mood a texture."""

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws


def draw_palette(count: int, colours: int, draws: Draws, *, spread: float = 1.0) -> Float[Tensor, "count colours 3"]:
    """Colours of one mood for each texture, their lightness spread over the whole range.

    Args:
        spread: 1 for colours from dark to light, less for colours alike.
    """
    lightness_rank = torch.arange(colours, device=draws.device)[None] + draws.uniform(count, colours)
    order = draws.uniform(count, colours).argsort(-1)
    lightness = 0.08 + 0.84 * (lightness_rank / colours).gather(1, order)
    middle = draws.uniform(count, 1, low=0.35, high=0.6)
    lightness = middle + spread * (lightness - middle)
    mood_warm = draws.normal(count, 1) * 0.09 + 0.06
    mood_green = draws.normal(count, 1) * 0.04
    variety = draws.log_uniform(count, 1, low=0.02, high=0.12)
    warm = mood_warm + variety * draws.normal(count, colours)
    green = mood_green + 0.5 * variety * draws.normal(count, colours)
    # Neither black nor white can be colourful.
    room = (4 * lightness * (1 - lightness)).clamp(0, 1)
    warm, green = warm * room, green * room
    return torch.stack([lightness + warm - green, lightness + green, lightness - warm - green], -1).clamp(0.02, 0.98)


def pick(
    palette: Float[Tensor, "count colours 3"], choice: Float[Tensor, "count 1 h w"]
) -> Float[Tensor, "count 3 h w"]:
    """The palette's colour for each texel; ``choice`` in [0, 1) runs over the palette."""
    colours = palette.shape[1]
    index = (choice * colours).long().clamp(0, colours - 1).flatten(2).expand(-1, 3, -1)
    return palette.transpose(1, 2).gather(2, index).unflatten(2, choice.shape[-2:])


def blend(
    palette: Float[Tensor, "count colours 3"], position: Float[Tensor, "count 1 h w"]
) -> Float[Tensor, "count 3 h w"]:
    """Colours along the palette, interpolated; ``position`` in [0, 1] runs from the first to the last."""
    colours = palette.shape[1]
    position = position.clamp(0, 1) * (colours - 1)
    below = position.floor().clamp(0, colours - 2)
    index = below.long().flatten(2).expand(-1, 3, -1)
    table = palette.transpose(1, 2)
    low, high = table.gather(2, index), table.gather(2, index + 1)
    return torch.lerp(low, high, (position - below).flatten(2)).unflatten(2, position.shape[-2:])
