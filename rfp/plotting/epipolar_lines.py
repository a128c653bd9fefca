"""Pictures of epipolar lines: points in one image, and in the other the lines on which they have to lie."""

import torch
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from rfp.plotting.side_by_side import SideBySide

TITLE_INCHES = 0.3

COLOURS = "turbo"
"""Sampled at even steps, its dark ends left out: neighbouring matches differ."""


def draw_epipolar_lines(
    image1: Float[Tensor, "3 h1 w1"],
    image2: Float[Tensor, "3 h2 w2"],
    xy1_px: Float[Tensor, "M 2"],
    xy2_px: Float[Tensor, "M 2"],
    F: Float[Tensor, "3 3"],
    *,
    num_matches: int = 12,
    title: str = "",
    width_inches: float = 10.0,
) -> Figure:
    """Some matches, far from each other, as points on the epipolar lines of their partners: x2ᵀ F x1 = 0 in pixels.

    Where F is right, each line of image 2 passes through the point of its colour, and so in image 1. Hartley and
    Zisserman, section 9.1.
    """
    images = SideBySide(image1, image2)
    image_inches = width_inches * images.height / images.width
    total_inches = image_inches + TITLE_INCHES
    figure = Figure(figsize=(width_inches, total_inches))
    axes = figure.add_axes((0.0, 0.0, 1.0, image_inches / total_inches))
    images.show(axes)
    chosen = far_apart(xy1_px, num_matches)
    xy1, xy2, F = xy1_px[chosen].double().cpu(), xy2_px[chosen].double().cpu(), F.double().cpu()
    colours = colormaps[COLOURS](torch.linspace(0.05, 0.95, max(len(chosen), 1)).numpy())
    for number, colour in enumerate(colours[: len(chosen)]):
        one = torch.ones(1, dtype=torch.float64)
        for image, line, point in (
            (2, F @ torch.cat([xy1[number], one]), xy2[number]),
            (1, F.T @ torch.cat([xy2[number], one]), xy1[number]),
        ):
            _draw_line(axes, images, image, line, colour)
            _draw_point(axes, images, image, point, colour)
    caption = f"epipolar lines of {len(chosen)} of {len(xy1_px)} matches"
    title_y = (image_inches + 0.3 * TITLE_INCHES) / total_inches
    figure.text(0.002, title_y, f"{title}: {caption}" if title else caption, fontsize=10)
    return figure


def far_apart(xy_px: Float[Tensor, "M 2"], count: int) -> Int[Tensor, "N"]:
    """At most ``count`` of the points, each the farthest from those before it; the first is nearest to their mean."""
    points = xy_px.detach().cpu().double()
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.int64)
    chosen = [int((points - points.mean(dim=0)).norm(dim=1).argmin())]
    distance = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < count and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


def segment_in_image(
    line: Float[Tensor, "3"], height: int, width: int
) -> tuple[Float[Tensor, "2"], Float[Tensor, "2"]] | None:
    """The ends of the part of the line a x + b y + c = 0 between the image's edges, or None where it passes by.

    The edges are half a pixel beyond the centres of the outermost pixels.
    """
    a, b, c = line.tolist()
    left, top, right, bottom = -0.5, -0.5, width - 0.5, height - 0.5
    ends = [(x, -(a * x + c) / b) for x in (left, right) if b != 0]
    ends += [(-(b * y + c) / a, y) for y in (top, bottom) if a != 0]
    tolerance = 1e-9 * (width + height)
    inside = [
        end
        for end in ends
        if left - tolerance <= end[0] <= right + tolerance and top - tolerance <= end[1] <= bottom + tolerance
    ]
    if len(inside) < 2:
        return None
    points = torch.tensor(sorted(inside), dtype=line.dtype)
    if (points[0] - points[-1]).norm() <= tolerance:
        return None
    return points[0], points[-1]


def _draw_line(axes: Axes, images: SideBySide, image: int, line: Float[Tensor, "3"], colour) -> None:
    height, width = (images.image1 if image == 1 else images.image2).shape[-2:]
    segment = segment_in_image(line, height, width)
    if segment is None:
        return
    drawn = images.place(torch.stack(segment), image)
    outline = [Stroke(linewidth=2.2, foreground="white", alpha=0.7), Normal()]
    axes.plot(drawn[:, 0], drawn[:, 1], color=colour, linewidth=1.1, path_effects=outline)


def _draw_point(axes: Axes, images: SideBySide, image: int, point: Float[Tensor, "2"], colour) -> None:
    # A ring: whether the line passes through it is to be seen.
    drawn = images.place(point[None], image)[0].tolist()
    for colour_of_ring, width in (("black", 3.4), (colour, 1.8)):
        axes.plot(
            *drawn,
            "o",
            markersize=8,
            markerfacecolor="none",
            markeredgecolor=colour_of_ring,
            markeredgewidth=width,
            zorder=3,
        )
