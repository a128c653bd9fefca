"""Colours as photographs have them: muted, mostly between warm and cool, one mood a texture."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.lattice import look_up


def draw_palette(count: int, colours: int, draws: Draws, *, spread: float = 1.0) -> Float[Tensor, "count 3 colours"]:
    """Colours of one mood for each texture, in random order, their lightness spread over the range.

    A colour is a lightness and two small opponent values: warm against cool, which daylight and earth vary most, and
    green against magenta.

    Args:
        spread: 1 for lightness from dark to light, less for colours alike.
    """
    steps = torch.arange(colours, device=draws.device) + draws.uniform(count, colours)
    order = draws.uniform(count, colours).argsort(-1)
    lightness = 0.06 + 0.88 * (steps / colours).gather(1, order)
    middle = draws.uniform(count, 1, low=0.35, high=0.6)
    lightness = middle + spread * (lightness - middle)
    variety = draws.log_uniform(count, 1, low=0.01, high=0.08)
    warm = 0.045 + 0.06 * draws.normal(count, 1) + variety * draws.normal(count, colours)
    green = 0.012 + 0.014 * draws.normal(count, 1) + 0.4 * variety * draws.normal(count, colours)
    # Neither black nor white can be colourful.
    room = (4 * lightness * (1 - lightness)).clamp(0, 1)
    warm, green = warm * room, green * room
    return torch.stack([lightness + warm - green, lightness + green, lightness - warm - green], 1).clamp(0.02, 0.98)


def single_colour(count: int, draws: Draws) -> Float[Tensor, "count 3 1 1"]:
    """One colour a texture."""
    return draw_palette(count, 1, draws)[..., None]


def pick(palette: Float[Tensor, "count 3 colours"], choice: Float[Tensor, "count 1 *places"]) -> Tensor:
    """The palette's colour at each place, (count, 3, *places); ``choice`` in [0, 1) runs over the palette."""
    colours = palette.shape[2]
    label = (choice * colours).floor().clamp(0, colours - 1)
    return look_up(palette, label.flatten(2)[:, :, None])[:, :, 0].unflatten(2, choice.shape[2:])


def blend(
    palette: Float[Tensor, "count 3 colours"], position: Float[Tensor, "count 1 h w"]
) -> Float[Tensor, "count 3 h w"]:
    """Colours along the palette without steps; ``position`` in [0, 1] runs from the first to the last."""
    # A ramp of 256 colours, looked up once where interpolating in place would read two.
    ramp = F.interpolate(palette, size=256, mode="linear", align_corners=True)
    return pick(ramp, position)
