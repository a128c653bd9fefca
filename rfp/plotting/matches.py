"""Pictures of matches: two images side by side, a line for each match, its colour how wrong it is."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from rfp.plotting.side_by_side import SideBySide

RIGHT, BETWEEN, WRONG = "#0f9d82", "#f2c14e", "#d1495b"
UNKNOWN = "#3a86c8"
"""Green to red would be one colour to many readers: these three differ in lightness too."""

ERROR_COLOURS = LinearSegmentedColormap.from_list(
    "epipolar error", [(0.0, RIGHT), (0.25, RIGHT), (0.5, BETWEEN), (1.0, WRONG)]
)
"""Over 0 to 4 thresholds: right up to one, wrong from four on."""

TITLE_INCHES, BAR_INCHES = 0.3, 0.5

CHARACTERS = 11
"""In an inch of a caption of 10 points; a longer caption is set smaller."""


@dataclass(frozen=True)
class DrawnMatches:
    """M matches and what is known about them. With an error they are coloured by it, else by inlier or not."""

    xy1_px: Float[Tensor, "M 2"]
    xy2_px: Float[Tensor, "M 2"]
    error_px: Float[Tensor, "M"] | None = None
    """Distance to the geometry, in pixels."""
    inliers: Bool[Tensor, "M"] | None = None
    geometry: str = "true epipolar geometry"
    """What the errors are measured to: true or estimated from the matches, an epipolar geometry or a homography."""


def draw_matches(
    image1: Float[Tensor, "3 h1 w1"],
    image2: Float[Tensor, "3 h2 w2"],
    matches: DrawnMatches,
    *,
    max_error_px: float = 1.0,
    title: str = "",
    width_inches: float = 10.0,
) -> Figure:
    """Both images side by side with the matches between them, and a line that counts them.

    Args:
        max_error_px: a match is right below it: full colour of a right one; four times as much is fully wrong.
    """
    return _draw_rows(image1, image2, {title: matches}, max_error_px, width_inches)


def draw_matches_of_networks(
    image1: Float[Tensor, "3 h1 w1"],
    image2: Float[Tensor, "3 h2 w2"],
    rows: dict[str, DrawnMatches],
    *,
    max_error_px: float = 1.0,
    width_inches: float = 10.0,
) -> Figure:
    """The same two images once for each entry of ``rows``, top to bottom, titled with its key: before, after."""
    return _draw_rows(image1, image2, rows, max_error_px, width_inches)


def _draw_rows(
    image1: Tensor, image2: Tensor, rows: dict[str, DrawnMatches], max_error_px: float, width_inches: float
) -> Figure:
    images = SideBySide(image1, image2)
    image_inches = width_inches * images.height / images.width
    coloured_by_error = any(matches.error_px is not None for matches in rows.values())
    bottom_inches = BAR_INCHES if coloured_by_error else 0.0
    total_inches = bottom_inches + len(rows) * (image_inches + TITLE_INCHES)
    figure = Figure(figsize=(width_inches, total_inches))
    for row, (title, matches) in enumerate(rows.items()):
        bottom = total_inches - (row + 1) * (image_inches + TITLE_INCHES)
        axes = figure.add_axes((0.0, bottom / total_inches, 1.0, image_inches / total_inches))
        images.show(axes)
        _draw_lines(axes, matches, images, max_error_px)
        title_y = (bottom + image_inches + 0.3 * TITLE_INCHES) / total_inches
        caption = _caption(title, matches, max_error_px)
        figure.text(0.002, title_y, caption, fontsize=min(10.0, 10.0 * CHARACTERS * width_inches / len(caption)))
    if coloured_by_error:
        geometry = " or ".join(dict.fromkeys(each.geometry for each in rows.values() if each.error_px is not None))
        _draw_error_bar(figure, total_inches, max_error_px, geometry)
    return figure


def _draw_lines(axes: Axes, matches: DrawnMatches, images: SideBySide, max_error_px: float) -> None:
    if len(matches.xy1_px) == 0:
        return
    start, end = images.place(matches.xy1_px, 1), images.place(matches.xy2_px, 2)
    colours, wrongness = _colours(matches, max_error_px)
    # Wrong matches first, so that the right ones, which usually agree with each other, stay readable above them.
    order = wrongness.argsort(descending=True).numpy()
    segments = torch.stack([start, end], dim=1).numpy()[order]
    colours = [colours[index] for index in order]
    alpha = min(0.8, max(0.2, 100 / len(order)))
    axes.add_collection(LineCollection(list(segments), colors=colours, linewidths=0.8, alpha=alpha))
    for points in (segments[:, 0], segments[:, 1]):
        axes.scatter(points[:, 0], points[:, 1], s=7, c=colours, linewidths=0.2, edgecolors="white", zorder=3)


def _colours(matches: DrawnMatches, max_error_px: float) -> tuple[list, Float[Tensor, "M"]]:
    if matches.error_px is not None:
        error = matches.error_px.detach().cpu().double()
        return list(ERROR_COLOURS(_error_scale(max_error_px)(error.numpy()))), error
    if matches.inliers is not None:
        wrong = (~matches.inliers.detach().cpu()).double()
        return [WRONG if value else RIGHT for value in wrong.tolist()], wrong
    return [UNKNOWN] * len(matches.xy1_px), torch.zeros(len(matches.xy1_px), dtype=torch.float64)


def _error_scale(max_error_px: float) -> Normalize:
    return Normalize(0, 4 * max_error_px, clip=True)


def _caption(title: str, matches: DrawnMatches, max_error_px: float) -> str:
    count = len(matches.xy1_px)
    text = f"{count} matches"
    if matches.error_px is not None and count:
        right = int((matches.error_px < max_error_px).sum())
        text += f", {right} ({right / count:.0%}) within {max_error_px:g} px of the {matches.geometry}"
    elif matches.inliers is not None and count:
        inliers = int(matches.inliers.sum())
        text += f", {inliers} inliers ({inliers / count:.0%})"
    return f"{title}: {text}" if title else text


def _draw_error_bar(figure: Figure, total_inches: float, max_error_px: float, geometry: str) -> None:
    height, bottom = 0.1 / total_inches, 0.3 / total_inches
    axes = figure.add_axes((0.35, bottom, 0.3, height))
    mappable = ScalarMappable(_error_scale(max_error_px), ERROR_COLOURS)
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend="max")
    bar.set_ticks([step * max_error_px for step in range(5)])
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]
    figure.text(0.34, bottom, f"distance to the {geometry} (px)", fontsize=8, ha="right")
