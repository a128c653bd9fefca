"""A folder of photographs from end to end: COLMAP model, posed pairs, training, evaluation, exports, reconstruction.

python examples/colmap_to_reconstruction.py photographs/ --output out
python examples/colmap_to_reconstruction.py photographs/ --model sparse/0 --network aliked-t16 --steps 50 --output out

The truth is what pycolmap finds from SIFT (or a model of yours), so that the figures say how well the network agrees
with it. Some images are kept from training, and the pairs with them are what the first figures are about. A run of 50
steps shows the way; whether it improves anything, the figures say. Needs ``pip install "rfp[colmap]"``.
"""

import argparse
import copy
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch

import rfp
from rfp.data.from_colmap import pairs_from_colmap
from rfp.data.pair_selection import PairChoice
from rfp.evaluation.reconstruction import MappingOptions
from rfp.evaluation.reconstruction_report import ReconstructionReport, evaluate_reconstruction, format_reconstructions
from rfp.evaluation.true_poses import read_true_poses
from rfp.export.colmap_logging import quiet_colmap
from rfp.export.detection import DetectionOptions
from rfp.export.hloc import export_hloc
from rfp.export.image_folder import open_image_folder
from rfp.optional import require
from rfp.training.checkpoint import write_json

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images", type=Path, help="folder of photographs of one scene")
parser.add_argument("--model", type=Path, help="COLMAP model of them; pycolmap makes one from SIFT by default")
parser.add_argument("--output", type=Path, required=True, help="a new folder for everything that is made")
parser.add_argument("--network", default="tiny")
parser.add_argument("--steps", type=int, default=50)
parser.add_argument("--image-size", type=int, default=640, help="longer side of the pairs' images")
parser.add_argument("--train-size", type=int, default=320, help="longer side of the images in training")
parser.add_argument("--held-out", type=float, default=0.25, help="share of the images that training never sees")
parser.add_argument("--num-keypoints", type=int, default=1024)
parser.add_argument("--num-threads", type=int, default=1, help="of pycolmap; more are slower on a busy machine")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--json", type=Path, help="write the figures to this file, too")


def sift_model(images: Path, output: Path, num_threads: int) -> Path:
    """The largest model that pycolmap maps from SIFT, undisturbed by what it prints on the way."""
    # Imported here, after torch: where pycolmap 4.2 comes first, OpenCV 5 crashes when it writes a PNG.
    pycolmap = require("pycolmap", extra="colmap")
    output.mkdir()
    extraction = pycolmap.FeatureExtractionOptions(max_image_size=1600, num_threads=num_threads)
    extraction.sift.max_num_features = 4096
    with quiet_colmap(pycolmap):
        pycolmap.extract_features(
            output / "sift.db", images, camera_mode=pycolmap.CameraMode.SINGLE, extraction_options=extraction
        )
        matching = pycolmap.FeatureMatchingOptions(num_threads=num_threads)
        pycolmap.match_exhaustive(output / "sift.db", matching_options=matching)
        options = pycolmap.IncrementalPipelineOptions(min_model_size=3, num_threads=num_threads)
        options.mapper.num_threads = num_threads
        models = pycolmap.incremental_mapping(output / "sift.db", images, output, options)
    if not models:
        raise rfp.InputError(f"{images}: pycolmap could not map these images from SIFT; give a model with --model")
    return output / str(max(models, key=lambda number: models[number].num_reg_images()))


def figures_of(report: ReconstructionReport) -> dict[str, Any]:
    """What the table of reconstructions says, as numbers."""
    assert report.poses is not None
    return {
        "images": report.num_images,
        "registered": report.num_registered,
        "points": report.num_points,
        "mean track length": round(report.mean_track_length, 2),
        "mean reprojection error, px": round(report.mean_reprojection_error_px, 2),
        "AUC@5/10/20 of its pairs": report.poses.auc,
    }


def main(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if output.exists():
        raise rfp.InputError(f"{output}: exists already; give a new folder")
    output.mkdir(parents=True)
    started = time.perf_counter()
    model = arguments.model or sift_model(arguments.images, output / "sift", arguments.num_threads)

    folder = output / "pairs"
    choice = PairChoice(seed=arguments.seed)
    written = pairs_from_colmap(model, arguments.images, folder, choice=choice, image_size=arguments.image_size)
    print(f"{written.num_pairs} pairs of {written.num_images} images in {folder}")

    # Images, not pairs, are held out: a pair that shares an image with training would not be new.
    small, large = (rfp.data.PosedPairs(folder, image_size=size) for size in (arguments.train_size, None))
    paths = sorted(small.image_paths)
    held_out = set(random.Random(arguments.seed).sample(paths, max(1, round(arguments.held_out * len(paths)))))
    new = [bool({record.image1, record.image2} & held_out) for record in small.records]
    train = [small[index] for index, is_new in enumerate(new) if not is_new]
    report = [large[index] for index, is_new in enumerate(new) if is_new]
    if not train or not report:
        raise rfp.InputError(f"{folder}: too few pairs to keep some from training; give more images")
    print(f"training on {len(train)} pairs, judged on the {len(report)} pairs with {len(held_out)} other images")

    start = rfp.load_network(arguments.network)
    network = copy.deepcopy(start)
    options = rfp.TrainerOptions(steps=arguments.steps, averaging=0.99, keypoint_weight=0.1, seed=arguments.seed)
    rfp.Trainer(network, options).fit(
        train,
        output=output / "run",
        on_step=lambda row: print(f"step {row['step']:4d}  reward {row['reward']:.3f}  failed {row['failed']:.1%}"),
    )

    networks = {"before": start, "after": network}
    new_pairs = {}
    for name, each in networks.items():
        figures = rfp.evaluate(each, report, estimator="poselib", num_keypoints=arguments.num_keypoints)
        new_pairs[name] = figures.auc
        auc = ", ".join(f"@{degrees} {value:.1f}" for degrees, value in figures.auc.items())
        print(f"AUC of the new pairs {name}: {auc}")

    # What other tools read: hloc's files of the trained network, and a COLMAP model mapped from its features.
    images, truth = open_image_folder(folder), read_true_poses(folder)
    detection = DetectionOptions(image_size=arguments.image_size, num_keypoints=arguments.num_keypoints)
    export_hloc(
        network,  # type: ignore[arg-type]
        images,
        output / "hloc",
        pairs=images.posed_pairs,
        detection=detection,
        device=torch.device("cpu"),
    )
    print(f"features and matches for hloc in {output / 'hloc'}")
    reconstructions = {}
    for name, each in networks.items():
        workspace = output / f"reconstruction_{name}"
        workspace.mkdir()
        mapping = MappingOptions(detection=detection)
        reconstructions[name] = evaluate_reconstruction(each, images, workspace, truth=truth, options=mapping)
    print(format_reconstructions(reconstructions))
    if arguments.json is not None:
        counts = {"train": len(train), "new": len(report), "images kept from training": len(held_out)}
        write_json(
            arguments.json,
            {
                "options": {"network": arguments.network, "steps": arguments.steps, "seed": arguments.seed},
                "pairs": counts,
                "AUC@5/10/20 of the new pairs": new_pairs,
                "reconstruction": {name: figures_of(report) for name, report in reconstructions.items()},
                "minutes": round((time.perf_counter() - started) / 60, 2),
            },
        )


if __name__ == "__main__":
    try:
        main(parser.parse_args())
    except rfp.InputError as error:
        sys.exit(f"error: {error}")
