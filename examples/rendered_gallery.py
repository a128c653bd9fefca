"""Look at rendered pairs: both images, the depth of the first, and points of the first carried into the second.

python examples/rendered_gallery.py --range hard --pairs 8 --output gallery.png
python examples/rendered_gallery.py --photographs FOLDER
"""

import argparse
import sys

import torch
from matplotlib.figure import Figure

from rfp.data import InputError, RenderedPairs, SceneOptions, load_photographs
from rfp.geometry.camera import normalize_points
from rfp.plotting import save_figure

RANGES = {
    "easy": SceneOptions.easy,
    "medium": SceneOptions.medium,
    "hard": SceneOptions.hard,
    "held_out": SceneOptions.held_out,
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--range", choices=RANGES, default="medium", help="of viewpoints and sensors")
parser.add_argument("--pairs", type=int, default=6)
parser.add_argument("--photographs", default=None, help="folder of photographs that surfaces wear, too")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", default="rendered_gallery.png")


def main(arguments: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(arguments.seed)
    photographs = None
    if arguments.photographs is not None:
        photographs = load_photographs(arguments.photographs, size=256, generator=generator)
    stream = RenderedPairs(RANGES[arguments.range](), photographs=photographs)
    batch = stream.render(arguments.pairs, generator=generator)
    height, width = batch.depth.shape[-2:]

    # Where a few points of image 1 are in image 2: X2 = R (depth · K1⁻¹ (x, y, 1)) + t, then K2.
    x = torch.linspace(0.15, 0.85, 5) * (width - 1)
    y = torch.linspace(0.15, 0.85, 4) * (height - 1)
    xy1 = torch.stack(torch.meshgrid(x.round(), y.round(), indexing="xy"), dim=-1).flatten(0, 1)
    depth = batch.depth[:, 0, xy1[:, 1].long(), xy1[:, 0].long()]
    rays = torch.nn.functional.pad(
        normalize_points(xy1.expand(arguments.pairs, -1, -1), batch.K[:, 0]), (0, 1), value=1.0
    )
    X2 = (depth[..., None] * rays) @ batch.R.mT + batch.t[:, None]
    projected = X2 @ batch.K[:, 1].mT
    xy2 = projected[..., :2] / projected[..., 2:].clamp_min(1e-6)
    inside = (X2[..., 2] > 0) & (xy2 > 0).all(-1) & (xy2[..., 0] < width - 1) & (xy2[..., 1] < height - 1)

    figure = Figure(figsize=(9.5, 2.6 * arguments.pairs), layout="constrained")
    for row, axes in enumerate(figure.subplots(arguments.pairs, 3, squeeze=False)):
        seen = inside[row].numpy()
        colours = torch.linspace(0, 1, len(xy1)).numpy()
        for camera, points in ((0, xy1), (1, xy2[row])):
            axes[camera].imshow(batch.images[row, camera].permute(1, 2, 0).numpy())
            axes[camera].scatter(*points.numpy()[seen].T, c=colours[seen], cmap="hsv", s=14, edgecolors="white")
        axes[2].imshow(batch.depth[row, 0].log().numpy(), cmap="viridis")
        angle = ((batch.R[row].trace() - 1) / 2).clamp(-1, 1).acos().rad2deg()
        axes[0].set_title(stream.options.layouts[int(batch.layout[row])], fontsize=9)
        axes[1].set_title(f"turned {angle:.0f}°, {batch.overlap[row]:.0%} seen by both", fontsize=9)
        axes[2].set_title(f"depth {batch.depth[row, 0].min():.1f} to {batch.depth[row, 0].max():.1f} m", fontsize=9)
        for one in axes:
            one.set_axis_off()
    save_figure(figure, arguments.output)
    print(f"{arguments.pairs} pairs, mean overlap {batch.overlap.mean():.0%}: {arguments.output}")


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except InputError as error:
        sys.exit(f"error: {error}")
