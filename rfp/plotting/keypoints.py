"""Pictures of key points: those of two networks on one image, told apart by whether both found them."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

SHARED, OWN = "#cbd5e1", "#ff7f0e"
"""Points of both networks are pale, those of one alone are bright."""

TITLE_INCHES = 0.3


def draw_keypoints_of_networks(
    image: Float[Tensor, "3 h w"],
    networks: Mapping[str, Float[Tensor, "K 2"]],
    *,
    radius_px: float = 2.0,
    width_inches: float = 10.0,
) -> Figure:
    """The image once for each of two networks, side by side: before, after; points that only one of them has stand out.

    Args:
        networks: The key points of each, by its name.
        radius_px: Points of two networks closer than this are the same.
    """
    (name1, points1), (name2, points2) = networks.items()
    height, width = image.shape[-2:]
    panel_inches = 0.495 * width_inches
    image_inches = panel_inches * height / width
    total_inches = image_inches + TITLE_INCHES
    figure = Figure(figsize=(width_inches, total_inches))
    for number, (name, points, others) in enumerate(((name1, points1, points2), (name2, points2, points1))):
        axes = figure.add_axes((0.505 * number, 0.0, 0.495, image_inches / total_inches))
        shared = near_another(points, others, radius_px)
        pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
        axes.imshow(pixels, extent=(0, width, height, 0), interpolation="antialiased")
        _dots(axes, points[shared], SHARED)
        _dots(axes, points[~shared], OWN)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        caption = f"{name}: {len(points)} key points, {int((~shared).sum())} of them its own (orange)"
        figure.text(0.505 * number + 0.002, 1 - 0.7 * TITLE_INCHES / total_inches, caption, fontsize=10)
    return figure


def near_another(points: Float[Tensor, "K 2"], others: Float[Tensor, "L 2"], radius_px: float) -> Bool[Tensor, "K"]:
    """Which points have one of the others within the radius."""
    points, others = points.detach().cpu().double(), others.detach().cpu().double()
    if len(others) == 0:
        return torch.zeros(len(points), dtype=torch.bool)
    return torch.cdist(points, others).amin(dim=1) <= radius_px


def _dots(axes: Axes, points: Float[Tensor, "K 2"], colour: str) -> None:
    drawn = points.detach().cpu() + 0.5  # a pixel's centre is half a pixel in
    axes.scatter(drawn[:, 0], drawn[:, 1], s=9, c=colour, linewidths=0.4, edgecolors="black", alpha=0.9)
