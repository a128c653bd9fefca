"""Makes the pictures of the pages when the site is built: from code and the shipped weights, no data, no download."""

import json
from io import BytesIO
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from mkdocs.structure.files import File
from torch import Tensor

import rfp
from rfp.data import (
    HomographyOptions,
    HomographyPairs,
    ReliefBatch,
    ReliefPairs,
    RenderedBatch,
    RenderedPairs,
    draw_homography_pairs,
)
from rfp.data.synthetic.textures import FAMILIES, HELD_OUT_FAMILIES, draw_textures
from rfp.geometry.camera import normalize_points
from rfp.plotting import DrawnMatches, draw_matches, draw_runs
from rfp.training.logged_run import read_run

RESULTS = Path(__file__).parent / "results"
NUM_KEYPOINTS = 300
NUM_RENDERED_PAIRS = 6


def on_files(files, *, config, **kwargs):
    """Add the pictures to the site's files; called by mkdocs."""
    for name, content in pictures().items():
        files.append(File.generated(config, f"assets/pictures/{name}.png", content=content))
    return files


def pictures() -> dict[str, bytes]:
    """Every picture that is made, as a PNG file."""
    made = {name: to_png(figure) for name, figure in tiny_pictures().items()}
    made["training_runs"] = to_png(training_runs_picture())
    made["learning_curves"] = to_png(learning_curves_picture())
    made["rendered_pairs"] = to_png(rendered_pairs_picture())
    made["relief_pairs"] = to_png(relief_pairs_picture())
    made["texture_families"] = to_png(texture_families_picture())
    return made


def tiny_pictures() -> dict[str, Figure]:
    """What the small network sees in two views of textures."""
    network, pairs = rfp.load_pretrained("tiny"), texture_views()
    return {"tiny_matches": matches_picture(network, pairs), "tiny_heat": heat_picture(network, pairs.images1[:1])}


def texture_views() -> HomographyPairs:
    """One pair of views of four textures side by side; the same whenever it is drawn."""
    textures = draw_textures(16, size=256, generator=torch.Generator().manual_seed(8))[::4]
    source = torch.cat(
        [torch.cat([textures[0], textures[1]], dim=-1), torch.cat([textures[2], textures[3]], dim=-1)], 1
    )
    options = HomographyOptions(image_size=(300, 400), tilt_deg=45.0, roll_deg=25.0, scale=1.2)
    return draw_homography_pairs(source[None], 1, options=options, generator=torch.Generator().manual_seed(3))


def matches_picture(network, pairs: HomographyPairs) -> Figure:
    """Both views and the mutual nearest neighbours, green where they agree with the homography within 2 px."""
    image1, image2 = pairs.images1[0], pairs.images2[0]
    xy1, xy2 = rfp.evaluation.match_images(network, image1, image2, num_keypoints=NUM_KEYPOINTS)
    homogeneous = torch.nn.functional.pad(xy1, (0, 1), value=1.0) @ pairs.H[0].T
    error = (homogeneous[:, :2] / homogeneous[:, 2:] - xy2).norm(dim=-1)
    right = error < 2
    title = f"{int(right.sum())} of {len(right)} mutual nearest neighbours within 2 px of the homography"
    figure = draw_matches(image1, image2, DrawnMatches(xy1, xy2, inliers=right))
    figure.texts[0].set_text(title)
    return figure


def heat_picture(network, image: torch.Tensor) -> Figure:
    """A view with its key points, and the heat map beside it."""
    features = rfp.detect(network, image, num_keypoints=NUM_KEYPOINTS)
    with torch.no_grad():
        log_heat = network.extract(image).log_heat[0]
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image[0].permute(1, 2, 0).clamp(0, 1).numpy())
    xy = features.xy_px[0][features.valid[0]].numpy()
    left.scatter(xy[:, 0], xy[:, 1], s=9, c="#f2c14e", edgecolors="black", linewidths=0.4)
    left.set_title(f"the {len(xy)} best key points", fontsize=10)
    log_p = log_heat.flatten().log_softmax(0).view_as(log_heat)
    shown = right.imshow(log_p.numpy(), cmap="magma", vmin=-14, vmax=-6)
    right.set_title("log P", fontsize=10)
    figure.colorbar(shown, ax=right, shrink=0.8)
    for axes in (left, right):
        axes.set_axis_off()
    return figure


def training_runs_picture() -> Figure:
    """Two short runs over each other, from the lines that they logged."""
    folders = sorted((RESULTS / "short_runs").iterdir())
    return draw_runs([read_run(folder, name=folder.name.replace("_", " ")) for folder in folders])


def learning_curves_picture() -> Figure:
    """The arms of the learning benchmark on their way, at three thresholds."""
    runs = [run for run in json.loads((RESULTS / "learning_curves.json").read_text())["runs"] if "curve" in run]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, threshold in zip(panels, ("5", "10", "20"), strict=True):
        for run in runs:
            steps = [each["step"] for each in run["curve"]]
            axes.plot(steps, [each["auc"][threshold] for each in run["curve"]], marker="o", ms=3, label=run["arm"])
        axes.set_title(f"AUC@{threshold}, %", fontsize=9)
        axes.set_xlabel("steps", fontsize=8)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    panels[0].legend(fontsize=8)
    return figure


def rendered_pairs_picture() -> Figure:
    """Pairs of the default range, two in a row: both images, the depth of the first, and points carried by it."""
    stream = RenderedPairs()
    batch = stream.render(NUM_RENDERED_PAIRS, generator=torch.Generator().manual_seed(0))
    layouts = [stream.options.layouts[int(place)] for place in batch.layout]
    return pairs_picture(batch, layouts, [f"{overlap:.0%} seen by both" for overlap in batch.overlap], " m")


def relief_pairs_picture() -> Figure:
    """The same of single pictures in relief; textures stand in for photographs, which the site would have to carry."""
    families = ("letters", "posters", "facade", "mosaic", "shapes", "masonry")
    textures = [
        draw_textures(1, size=512, families=(family,), generator=torch.Generator().manual_seed(4))
        for family in families
    ]
    batch = ReliefPairs(torch.cat(textures)).render(NUM_RENDERED_PAIRS, generator=torch.Generator().manual_seed(2))
    angles = torch.rad2deg(torch.acos(batch.R[:, 2, 2].clamp(-1, 1)))
    return pairs_picture(batch, [""] * NUM_RENDERED_PAIRS, [f"axes {angle:.0f}° apart" for angle in angles], "")


def pairs_picture(batch: RenderedBatch | ReliefBatch, first_titles, second_titles, unit: str) -> Figure:
    """Two pairs in a row: both images, the depth of the first, and points carried by it."""
    xy1, xy2, seen = carried_points(batch)
    colours = torch.linspace(0, 1, len(xy1)).numpy()
    figure = Figure(figsize=(10, 4.45), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)  # type: ignore
    halves: list[SubFigure] = list(figure.subfigures(1, 2, wspace=0.02))  # type: ignore
    axes = [row for half in halves for row in half.subplots(len(batch.images) // 2, 3)]
    for b, (first, second, third) in enumerate(axes):
        for camera, (axis, points) in enumerate(((first, xy1), (second, xy2[b]))):
            axis.imshow(batch.images[b, camera].permute(1, 2, 0).numpy())
            points, colour = points.numpy()[seen[b].numpy()], colours[seen[b].numpy()]
            axis.scatter(*points.T, c=colour, cmap="turbo", vmin=0, vmax=1, s=16, edgecolors="white", linewidths=0.6)
        third.imshow(batch.depth[b, 0].log().numpy(), cmap="viridis")
        first.set_title(first_titles[b], fontsize=8)
        second.set_title(second_titles[b], fontsize=8)
        third.set_title(f"depth {batch.depth[b, 0].min():.1f} to {batch.depth[b, 0].max():.1f}{unit}", fontsize=8)
        for axis in (first, second, third):
            axis.set_axis_off()
    return figure


def carried_points(batch: RenderedBatch | ReliefBatch) -> tuple[Float[Tensor, "N 2"], Tensor, Tensor]:
    """A grid of pixels of image 1, where depth and pose carry them in image 2, and whether they are seen there.

    X2 = R (depth · K1⁻¹ (x, y, 1)) + t, then K2. What hides a point from camera 2 has a smaller depth there.
    """
    height, width = batch.depth.shape[-2:]
    x, y = torch.linspace(0.12, 0.88, 6) * (width - 1), torch.linspace(0.15, 0.85, 4) * (height - 1)
    xy1 = torch.stack(torch.meshgrid(x.round(), y.round(), indexing="xy"), dim=-1).flatten(0, 1)
    depth = batch.depth[:, 0, xy1[:, 1].long(), xy1[:, 0].long()]
    rays = torch.nn.functional.pad(normalize_points(xy1.expand(len(depth), -1, -1), batch.K[:, 0]), (0, 1), value=1.0)
    X2 = (depth[..., None] * rays) @ batch.R.mT + batch.t[:, None]
    projected = X2 @ batch.K[:, 1].mT
    xy2 = projected[..., :2] / projected[..., 2:].clamp_min(1e-6)
    inside = (X2[..., 2] > 0) & (xy2 > 0).all(-1) & (xy2[..., 0] < width - 1) & (xy2[..., 1] < height - 1)
    at = torch.where(inside[..., None], xy2, 0.0).round().long()
    depth2 = batch.depth[torch.arange(len(depth))[:, None], 1, at[..., 1], at[..., 0]]
    return xy1, xy2, inside & ((X2[..., 2] - depth2).abs() < 0.03 * depth2)


def texture_families_picture() -> Figure:
    """One texture of every family under its name."""
    figure = Figure(figsize=(10, 3.3), layout="constrained")
    axes = figure.subplots(2, (len(FAMILIES) + 1) // 2).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, family in zip(axes, FAMILIES):
        texture = draw_textures(1, size=192, families=(family,), generator=torch.Generator().manual_seed(4))[0]
        axis.imshow(texture.permute(1, 2, 0).numpy())
        held_out = family in HELD_OUT_FAMILIES
        name = family.replace("_", " ")
        axis.set_title(
            f"{name}\n(held out)" if held_out else name, fontsize=9, color="#b03a2e" if held_out else "black"
        )
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
