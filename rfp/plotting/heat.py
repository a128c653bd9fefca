"""Pictures of a detector's heat maps: where a network looks for key points, and which ones it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from rfp.plotting.side_by_side import grey_pixels

COLOURS = "inferno"
KEYPOINT = "#39d0ff"

LOWEST, HIGHEST = 0.1, 1e4
"""Limits of the scale, in times the uniform probability; the upper one is lowered to what a picture reaches."""

TITLE_INCHES, BAR_INCHES, GAP_INCHES = 0.3, 0.55, 0.08


@dataclass(frozen=True)
class DrawnHeat:
    """An image, what a detector makes of it, and the key points that it took."""

    image: Float[Tensor, "3 h w"]
    log_heat: Float[Tensor, "h w"]
    """log f at each pixel, up to a constant: P = softmax over the image."""
    xy_px: Float[Tensor, "K 2"]


def draw_heat(heats: Sequence[DrawnHeat], *, title: str = "", width_inches: float = 10.0) -> Figure:
    """For each image a column: the image with its key points, and below it P(x) in times the uniform probability.

    The scale is logarithmic and the same for all images: 1 is a pixel that is as probable as if all were equal.
    """
    relative = [relative_probability(heat.log_heat) for heat in heats]
    norm = LogNorm(LOWEST, _upper_limit(relative), clip=True)
    # One height for all: a column's width follows from the shape of its image.
    shapes = [heat.image.shape[-1] / heat.image.shape[-2] for heat in heats]
    image_inches = (width_inches - GAP_INCHES * (len(heats) - 1)) / sum(shapes)
    total_inches = TITLE_INCHES + 2 * image_inches + GAP_INCHES + BAR_INCHES
    figure = Figure(figsize=(width_inches, total_inches))
    left = 0.0
    for heat, values, shape in zip(heats, relative, shapes):
        height, width = heat.image.shape[-2:]
        for row in range(2):
            bottom = BAR_INCHES + (1 - row) * (image_inches + GAP_INCHES)
            box = (left / width_inches, bottom / total_inches, shape * image_inches / width_inches)
            axes = figure.add_axes((*box, image_inches / total_inches))
            extent = (0.0, float(width), float(height), 0.0)
            if row == 0:
                axes.imshow(grey_pixels(heat.image).numpy(), extent=extent, cmap="gray", vmin=0, vmax=1)
                points = heat.xy_px.detach().cpu() + 0.5  # a pixel's centre is half a pixel from its edges
                axes.scatter(points[:, 0], points[:, 1], s=6, c=KEYPOINT, linewidths=0.3, edgecolors="black")
            else:
                axes.imshow(values.numpy(), extent=extent, cmap=COLOURS, norm=norm, interpolation="antialiased")
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.set_axis_off()
        left += shape * image_inches + GAP_INCHES
    counts = " and ".join(str(len(heat.xy_px)) for heat in heats)
    caption = f"{counts} key points, and the detector's probability below"
    title_y = 1 - 0.7 * TITLE_INCHES / total_inches
    figure.text(0.002, title_y, f"{title}: {caption}" if title else caption, fontsize=10)
    _draw_bar(figure, norm, total_inches)
    return figure


def relative_probability(log_heat: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """P(x) times the number of pixels, on the CPU: 1 everywhere for a detector that prefers nothing.

    A pixel that cannot be drawn (log f = -inf) has 0; an image without any other has 0 everywhere.
    """
    flat = log_heat.detach().cpu().double().flatten()
    if not bool((flat > -math.inf).any()):
        return torch.zeros(log_heat.shape)
    return (flat.softmax(dim=0) * flat.numel()).float().unflatten(0, log_heat.shape)


def _upper_limit(relative: Sequence[Tensor]) -> float:
    """The next power of ten above nearly all pixels, so that a picture's colours are used."""
    largest = max(
        float(values.flatten().quantile(0.999)) if values.numel() < 2**24 else float(values.max())
        for values in relative
    )
    return 10.0 ** min(math.log10(HIGHEST), max(1.0, math.ceil(math.log10(max(largest, 1.0)))))


def _draw_bar(figure: Figure, norm: LogNorm, total_inches: float) -> None:
    bottom = 0.3 / total_inches
    axes = figure.add_axes((0.35, bottom, 0.3, 0.1 / total_inches))
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), cax=axes, orientation="horizontal", extend="both")
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]
    figure.text(0.34, bottom, "P(x), in times the uniform probability", fontsize=8, ha="right")
