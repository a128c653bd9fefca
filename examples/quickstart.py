"""Fine-tune rfp's small network on scenes that rfp renders itself: no data, no download, a few minutes on a CPU.

python examples/quickstart.py
python examples/quickstart.py --steps 400 --pairs 200 --device cuda
"""

import argparse
import sys

import torch

import rfp
from rfp.data import RenderedPairs, SceneOptions, rendered_set

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--pairs", type=int, default=60, help="held-out pairs to judge on")
parser.add_argument("--size", type=int, nargs=2, default=(240, 320), help="height and width of the images")
parser.add_argument("--device", default="cpu")
parser.add_argument("--output", default=None, help="run folder")


def main(arguments: argparse.Namespace) -> None:
    size = tuple(arguments.size)

    # New scenes at every step; the table's are of layouts and textures that this stream never draws.
    network = rfp.load_pretrained("tiny").to(arguments.device)
    scenes = RenderedPairs(SceneOptions(image_size=size))
    held_out = rendered_set(
        SceneOptions.held_out(image_size=size), num_pairs=arguments.pairs, seed=1, device=torch.device(arguments.device)
    )
    before = rfp.evaluate(network, held_out, estimator="poselib", num_keypoints=512)

    options = rfp.TrainerOptions(steps=arguments.steps, averaging=0.99, seed=0)
    rfp.Trainer(network, options).fit(
        scenes,
        output=arguments.output,
        on_step=lambda row: print(f"step {row['step']:4d}  reward {row['reward']:.3f}  failed {row['failed']:.1%}"),
    )

    after = rfp.evaluate(network, held_out, estimator="poselib", num_keypoints=512)
    for degrees in before.auc:
        print(f"AUC@{degrees} of {len(held_out)} held-out pairs: {before.auc[degrees]:.1f} -> {after.auc[degrees]:.1f}")


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except rfp.InputError as error:
        sys.exit(f"error: {error}")
