"""Makes the pictures of the pages when the site is built: from code and the shipped weights, no data, no download."""

from io import BytesIO

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mkdocs.structure.files import File

import rfp
from rfp.data import HomographyOptions, HomographyPairs, draw_homography_pairs
from rfp.data.synthetic.textures import draw_textures
from rfp.plotting import DrawnMatches, draw_matches

NUM_KEYPOINTS = 300


def on_files(files, *, config, **kwargs):
    """Add the pictures to the site's files; called by mkdocs."""
    for name, figure in tiny_pictures().items():
        files.append(File.generated(config, f"assets/pictures/{name}.png", content=to_png(figure)))
    return files


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


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
