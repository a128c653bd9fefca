"""The shipped small network beside SIFT and aliked-t16: size, time an image, and relative poses on photographs.

    RFP_DATA=... python benchmarks/tiny_network.py [--quick] [--json docs/results/tiny_network.json --card]

Poses are judged as deployed: key points, mutual nearest neighbours without a ratio test, PoseLib; every detector gets
the same images, the same number of key points and the same estimator with the same seed. The photographs did not
train tiny. Times are of one image, the networks alternating in one run.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from machine import machine
from report_sets import REPORT, data_root, keyed_auc
from timing import alternating, spread
from torch import Tensor
from tqdm import tqdm

import rfp
from rfp.data import PosedPairs
from rfp.data.synthetic.textures import draw_textures
from rfp.evaluation import estimate_pose, match_features
from rfp.models.pretrained import SHIPPED_WEIGHTS
from rfp.records import Features, PosedPair
from rfp.training.checkpoint import write_json

CARD_MARKS = ("<!-- figures: written by benchmarks/tiny_network.py --card -->", "<!-- end of figures -->")


@dataclass(frozen=True)
class Setting:
    """How a set is judged."""

    image_size: int
    num_keypoints: int
    max_error_px: float

    def __str__(self) -> str:
        return f"AUC@5/10/20 at {self.image_size} px, {self.num_keypoints} key points, {self.max_error_px:g} px"


SETTINGS = (Setting(640, 1024, 1.5), Setting(320, 512, 1.0))


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    card: bool = False
    """Write the table of poses into the model card beside the weights, too."""
    quick: bool = False
    """Five pairs of each set, and few repetitions."""
    repetitions: int = 25
    """Timed calls of each network."""
    threads: int = 2
    """Of torch and of OpenCV."""


def pair_sets(setting: Setting) -> dict[str, Sequence[PosedPair]]:
    """The real pairs that are judged on, by name."""
    root = data_root()
    return {name: PosedPairs(root / name, image_size=setting.image_size) for name in REPORT}


def sift(image: Tensor, num_keypoints: int) -> Features:
    """OpenCV's SIFT on the grey image with its own thresholds, the strongest key points."""
    rgb = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    detector: Any = cv2.SIFT_create(nfeatures=num_keypoints)  # type: ignore[attr-defined]
    points, descriptors = detector.detectAndCompute(grey, None)
    points, count = points[:num_keypoints], min(len(points), num_keypoints)  # it may return a few more
    descriptors = descriptors[:count] if count else np.zeros((0, 128), np.float32)
    return Features(
        xy_px=torch.tensor([point.pt for point in points], dtype=torch.float32).reshape(1, count, 2),
        score=torch.tensor([[point.response for point in points]]).reshape(1, count),
        descriptor=torch.nn.functional.normalize(torch.from_numpy(descriptors), dim=-1)[None],
        valid=torch.ones(1, count, dtype=torch.bool),
    )


def error_deg(features1: Features, features2: Features, pair: PosedPair, max_error_px: float) -> float:
    """The larger of the rotation's and the translation's error, 180 where PoseLib finds no pose."""
    xy1_px, xy2_px = match_features(features1, features2)
    pose = estimate_pose("poselib", xy1_px, xy2_px, pair.K1, pair.K2, max_error_px=max_error_px)
    if not pose.valid:
        return 180.0
    errors = rfp.relative_pose_error(pose.R, pose.t, pair.R.double(), pair.t.double(), fold_translation=True)
    return float(torch.maximum(*errors).rad2deg())


def judge(
    sets: Mapping[str, Sequence[PosedPair]], setting: Setting, networks: dict[str, Any], *, quick: bool = False
) -> dict[str, dict[str, Any]]:
    """AUC by detector and set; all detectors see each pair in turn."""
    detectors: dict[str, Callable[[Tensor], Features]] = {"SIFT": lambda image: sift(image, setting.num_keypoints)}
    for name, network in networks.items():
        detectors[name] = lambda image, network=network: rfp.detect(network, image, num_keypoints=setting.num_keypoints)
    figures: dict[str, dict[str, Any]] = {name: {} for name in detectors}
    for set_name, pairs in sets.items():
        errors, seen = defaultdict(list), {}
        chosen = range(0, len(pairs), max(1, len(pairs) // 5)) if quick else range(len(pairs))
        for index in tqdm(chosen, desc=set_name, unit="pair", leave=False):
            pair = pairs[index]
            for name, detector in detectors.items():
                keys = [(name, hash(image.numpy().tobytes())) for image in (pair.image1, pair.image2)]
                for key, image in zip(keys, (pair.image1, pair.image2), strict=True):
                    if key not in seen:  # an image belongs to several pairs
                        seen[key] = detector(image[None])
                first, second = (seen[key] for key in keys)
                errors[name].append(error_deg(first, second, pair, setting.max_error_px))
        for name in detectors:
            figures[name][f"{set_name} ({len(chosen)} pairs)"] = keyed_auc(errors[name])
    return figures


def times(networks: dict[str, Any], options: Options) -> dict[str, Any]:
    """Milliseconds of ``extract`` and ``detect`` an image of 480 × 640, and tiny's share of aliked-t16's."""
    image = draw_textures(1, size=640, generator=torch.Generator().manual_seed(0))[:, :, :480].contiguous()
    kinds: dict[str, Callable[[Any], Any]] = {
        "extract": lambda network: network.extract(image),
        "detect 1024 points": lambda network: rfp.detect(network, image, num_keypoints=1024),
    }
    rows = {}
    repetitions = 5 if options.quick else options.repetitions
    for kind, call in kinds.items():
        calls = {name: lambda network=network, call=call: call(network) for name, network in networks.items()}
        for clock, measured in alternating(calls, repetitions=repetitions, threads=options.threads).items():
            ratios = [a / b for a, b in zip(measured["tiny"], measured["aliked-t16"], strict=True)]
            row = {f"{name}, ms": spread(measured[name]) for name in networks}
            rows[f"{kind}, {clock}"] = {**row, "tiny : aliked-t16": spread(ratios)}
    return rows


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    measured_with = {
        **machine(),  # now: the tree may have changed when the last figure is in
        "opencv": cv2.__version__,
        "threads": options.threads,
        "repetitions": 5 if options.quick else options.repetitions,
        "estimator": "PoseLib, seed 0; mutual nearest neighbours",
    }
    networks = {name: rfp.load_pretrained(name) for name in ("tiny", "aliked-t16")}
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    result: dict[str, Any] = {
        "size": {
            "parameters": parameters,
            "weights file of tiny": {"tiny": f"{(SHIPPED_WEIGHTS / 'tiny.safetensors').stat().st_size} bytes"},
        },
        "time of a 480 × 640 image": times(networks, options),
    }
    for setting in SETTINGS:
        result[str(setting)] = judge(pair_sets(setting), setting, networks, quick=options.quick)
    result["measured with"] = measured_with
    print_figures(result)
    if options.json is not None:
        write_json(options.json, result)
    if options.card:
        write_card(result, SHIPPED_WEIGHTS / "tiny.md")


def write_card(result: dict[str, Any], path: Path) -> None:
    """Put the tables of poses between the card's two marks."""
    tables = []
    for title, detectors in result.items():
        if title.startswith("AUC"):
            sets = list(next(iter(detectors.values())))
            rows = [[title, *sets], ["---"] * (len(sets) + 1)]
            for name, aucs in detectors.items():
                rows.append([name, *("/".join(f"{value:.1f}" for value in aucs[key].values()) for key in sets)])
            tables.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    before, rest = path.read_text().split(CARD_MARKS[0])
    after = rest.split(CARD_MARKS[1])[1]
    path.write_text(before + CARD_MARKS[0] + "\n\n" + "\n\n".join(tables) + "\n\n" + CARD_MARKS[1] + after)


def print_figures(result: dict[str, Any]) -> None:
    """The figures as lines of text."""
    for title, rows in result.items():
        print(f"\n{title}")
        for name, row in rows.items():
            if not isinstance(row, dict):
                print(f"  {name}: {row}")
                continue
            cells = {
                key: "/".join(f"{auc:.1f}" for auc in cell.values()) if "AUC" in title else cell
                for key, cell in row.items()
            }
            print(f"  {name}: " + ", ".join(f"{key} {cell}" for key, cell in cells.items()))


if __name__ == "__main__":
    main(tyro.cli(Options))
