"""Pictures of epipolar lines: points in one image, and in the other the lines on which they have to lie."""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class DrawnEpipolarLines:
    """M matches of two images, and the fundamental matrix whose lines are drawn: x2ᵀ F x1 = 0 in pixels."""

    image1: Float[Tensor, "3 h1 w1"]
    image2: Float[Tensor, "3 h2 w2"]
    xy1_px: Float[Tensor, "M 2"]
    xy2_px: Float[Tensor, "M 2"]
    F: Float[Tensor, "3 3"]
    title: str = ""


def draw_epipolar_lines(
    rows: Sequence[DrawnEpipolarLines], *, num_matches: int = 12, width_inches: float = 10.0
) -> Figure:
    """Some matches of each pair, far from each other, as rings on the epipolar lines of their partners; a row a pair.

    Where F is right, each line of image 2 passes through the ring of its colour, and so in image 1. Hartley and
    Zisserman, section 9.1.
    """
    pairs = [SideBySide(row.image1, row.image2) for row in rows]
    heights = [width_inches * images.height / images.width for images in pairs]
    total_inches = sum(heights) + TITLE_INCHES * len(rows)
    figure = Figure(figsize=(width_inches, total_inches))
    top = total_inches
    for row, images, height in zip(rows, pairs, heights):
        bottom = top - TITLE_INCHES - height
        axes = figure.add_axes((0.0, bottom / total_inches, 1.0, height / total_inches))
        images.show(axes)
        count = _draw_pair(axes, images, row, num_matches)
        caption = f"epipolar lines of {count} of {len(row.xy1_px)} matches"
        title_y = (top - 0.7 * TITLE_INCHES) / total_inches
        figure.text(0.002, title_y, f"{row.title}: {caption}" if row.title else caption, fontsize=10)
        top = bottom
    return figure


def _draw_pair(axes: Axes, images: SideBySide, row: DrawnEpipolarLines, num_matches: int) -> int:
    """How many matches were drawn."""
    chosen = far_apart(row.xy1_px, num_matches)
    xy1, xy2, F = (tensor.double().cpu() for tensor in (row.xy1_px[chosen], row.xy2_px[chosen], row.F))
    colours = colormaps[COLOURS](torch.linspace(0.05, 0.95, max(len(chosen), 1)).numpy())
    one = torch.ones(1, dtype=torch.float64)
    for point1, point2, colour in zip(xy1, xy2, colours):
        for image, line, point in (
            (2, F @ torch.cat([point1, one]), point2),
            (1, F.T @ torch.cat([point2, one]), point1),
        ):
            _draw_line(axes, images, image, line, colour)
            _draw_point(axes, images, image, point, colour)
    return len(chosen)


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
