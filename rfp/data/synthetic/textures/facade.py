"""A family that training never draws: house fronts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.synthetic.textures.draws import Draws
from rfp.data.synthetic.textures.finish import paint
from rfp.data.synthetic.textures.lattice import draw_lattice, draw_table, look_up
from rfp.data.synthetic.textures.noise import bent_grid, spectral_noise
from rfp.data.synthetic.textures.palette import draw_palette, pick, single_colour


@dataclass(frozen=True)
class Windows:
    """The window that each texel belongs to; lengths in texels."""

    place: Float[Tensor, "count 2 h w"]
    """From the window's centre."""
    half: Float[Tensor, "count 2 h w"]
    """Half the width and height of the opening."""
    storey: Float[Tensor, "count 1 h w"]
    """Distance to the nearest line between two storeys."""
    numbers: Float[Tensor, "count 6 h w"]
    """Uniform numbers of the window."""
    texels: Float[Tensor, "count 2 1 1"]
    """Distance between the windows."""

    @property
    def inside(self) -> Float[Tensor, "count 1 h w"]:
        """Distance inside the opening."""
        return (self.half - self.place.abs()).amin(1, keepdim=True)


def facade(count: int, size: int, draws: Draws) -> Float[Tensor, "count 3 size size"]:
    """House fronts: windows in rows with frames, sills, bars, blinds, railings and panes of uneven light."""
    windows = _windows(count, size, draws)
    fine, rough = spectral_noise(count, 2, size, draws, slope=draws.uniform(count, low=0.9, high=1.4)).split(1, 1)
    frames, dark = single_colour(count, draws), 0.5 * single_colour(count, draws)
    wall = single_colour(count, draws) * (1 + 0.1 * fine + 0.06 * rough)
    moulding = draws.uniform(count, 1, 1, 1, low=-12.0, high=5.0) - windows.storey
    image = paint(wall, 1.5 * dark, (moulding + 0.5).clamp(0, 1))
    image = _sills(image, windows, frames)
    frame = draws.uniform(count, 1, 1, 1, low=1.0, high=3.0)
    frame_light = 0.75 + 0.5 * windows.numbers[:, :1]
    image = paint(image, frames * frame_light, (windows.inside + frame + 0.5).clamp(0, 1))
    glass, bar = _panes(windows, draws)
    glass = paint(glass * (1 + 0.25 * rough), frames, _blinds(windows))
    image = paint(image, glass, (windows.inside + 0.5).clamp(0, 1) * (bar - frame / 3 + 0.5).clamp(0, 1))
    return paint(image, dark, _railings(windows))


def _windows(count: int, size: int, draws: Draws) -> Windows:
    """Windows in rows, some of them smaller, none quite in its place."""
    xy = bent_grid(count, size, draws, largest=0.006)
    lattice = draw_lattice(count, draws, cells=(2.0, 8.0), aspect=(0.6, 1.6), tilt=0.0)
    cells = lattice.cells(lattice.coordinates(xy))
    texels = lattice.cell_size * size
    smaller, narrower, shift, numbers = look_up(draw_table(count, 10, draws), cells.label).split([1, 1, 2, 6], 1)
    half = draws.uniform(count, 2, 1, 1, low=0.22, high=0.4) * texels
    half = half * (1 - 0.35 * (smaller < 0.15).float() - 0.1 * narrower)
    place = (cells.local - 0.06 * (shift - 0.5)) * texels
    return Windows(place, half, (0.5 - cells.local[:, 1:].abs()) * texels[:, 1:], numbers, texels)


def _sills(
    image: Float[Tensor, "count 3 h w"], windows: Windows, colour: Float[Tensor, "count 3 1 1"]
) -> Float[Tensor, "count 3 h w"]:
    """The wall with sills under the windows and their shade."""
    below = (windows.place - windows.half)[:, 1:] / windows.texels[:, 1:]
    within = 1.2 * windows.half[:, :1] - windows.place[:, :1].abs()
    sill = torch.minimum((0.04 - (below - 0.03).abs()) * windows.texels[:, 1:], within)
    shade = torch.minimum((0.05 - (below - 0.1).abs()) * windows.texels[:, 1:], within)
    image = image * (1 - 0.35 * (0.5 * shade + 0.5).clamp(0, 1))
    return paint(image, 1.15 * colour, (sill + 0.5).clamp(0, 1))


def _panes(windows: Windows, draws: Draws) -> tuple[Float[Tensor, "count 3 h w"], Float[Tensor, "count 1 h w"]]:
    """The colour of each pane, which reflects the sky above, and the distance to the bars between panes."""
    count = windows.place.shape[0]
    light = windows.numbers[:, 1:2]
    number = (draws.uniform(count, 2, 1, 1) * 2 + 0.7 * windows.numbers[:, 2:3]).floor() + 1
    across = (windows.place / windows.half + 1) * number / 2
    pane = across.floor()
    bar = ((0.5 - (across - pane - 0.5).abs()) * windows.half * 2 / number).amin(1, keepdim=True)
    entries = 4096
    entry = ((light * entries).floor() + 61 * pane[:, :1] + 17 * pane[:, 1:]).remainder(entries)
    own_light = look_up(draws.uniform(count, 1, entries), entry)
    colour = pick(draw_palette(count, 6, draws), (light + 0.35 * (own_light - 0.5)).clamp(0, 0.999))
    return colour * (1 + 0.4 * windows.place[:, 1:] / windows.texels[:, 1:]), bar


def _blinds(windows: Windows) -> Float[Tensor, "count 1 h w"]:
    """Coverage of blinds, let down to a height drawn for each window, with gaps between the slats."""
    half, place = windows.half[:, 1:], windows.place[:, 1:]
    lowered = 2 * half * (1.4 * windows.numbers[:, 3:4] - 0.5) - (place + half)
    return (lowered + 0.5).clamp(0, 1) * (0.8 + 0.2 * torch.sin(1.6 * place))


def _railings(windows: Windows) -> Float[Tensor, "count 1 h w"]:
    """Coverage of the rods before some windows."""
    below = (windows.place - windows.half)[:, 1:].abs() < 0.12 * windows.texels[:, 1:]
    within = windows.place[:, :1].abs() < 1.2 * windows.half[:, :1]
    return (0.5 + 0.5 * torch.sin(1.3 * windows.place[:, :1])) * (below & within & (windows.numbers[:, 4:5] < 0.3))
