"""``rfp evaluate``: the pose accuracy of a network on posed pairs, as it is deployed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rfp.cli.device import choose_device
from rfp.cli.evaluation_pictures import (
    Deployment,
    check_picture_folder,
    draw_changed_pairs,
    draw_curves,
    draw_worst_pairs,
)
from rfp.cli.networks import load_networks
from rfp.cli.output import check_can_write, write_figures, write_table
from rfp.data.sets import OpenedPairs, open_posed_pairs
from rfp.evaluation import (
    Comparison,
    EstimatorName,
    Sweep,
    check_settings,
    compare,
    format_comparison,
    format_scenes,
    format_scenes_markdown,
    format_sweep,
    pair_errors,
    sweep,
)
from rfp.evaluation.feature_memory import timed
from rfp.matching.match import MatcherName
from rfp.records import InputError


@dataclass(frozen=True)
class Evaluate:
    """Judge a network by the relative poses that an outside estimator finds from its matches.

    Deployment, not sampling: non-maximum suppression, the best key points, mutual nearest neighbours or another
    matcher. Prints AUC@5/10/20 of the pose error in percent, one row a scene, with 95 % intervals; pairs without a
    pose count as errors of 180 degrees.

    In use:
      rfp evaluate --network aliked-t16 --data lund_door strecha_fountain_p11 --json figures.json
      several thresholds:   rfp evaluate --data lund_door --max-error-px 0.5 1 2 3
      before and after:     rfp evaluate --network aliked-t16 --compare runs/castle --data lund_door --pictures pictures
      another matcher:      rfp evaluate --network disk --matcher lightglue --data lund_door
      a known set's list:   rfp evaluate --data scannet_test_pairs_with_gt.txt --images scannet_test_1500
    """

    data: tuple[Path, ...]
    """Folders of posed pairs (images/ and pairs.json), or the files of known sets; several are pooled."""
    images: Path | None = None
    """Where the images are, for the lists of SuperGlue and MegaDepth among --data."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    compare: str | None = None
    """A second network on the same pairs: differences are its figures minus those of --network."""
    matcher: MatcherName = "mutual"
    """Mutual nearest neighbours, ratio test, dual softmax or LightGlue (for aliked-n16 and disk)."""
    estimator: EstimatorName = "poselib"
    """Who estimates the pose. Judge with one that training did not use."""
    image_size: int | None = 640
    """Longer side of the images in pixels, intrinsics scaled in step; None keeps the stored size."""
    num_keypoints: int = 1024
    """Key points an image."""
    nms_radius: int = 2
    """Radius of the non-maximum suppression in pixels."""
    max_error_px: tuple[float, ...] = (1.0,)
    """The estimator's inlier threshold, in pixels of the resized images. Several: a table of all of them; the best,
    chosen on these pairs, is the one that is broken down by scene and compared."""
    seed: int = 0
    """Of the estimator's samples (OpenCV's two use one of their own)."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""
    json: Path | None = None
    """Write the figures, pair by pair, to this file: rfp compare reads it."""
    markdown: Path | None = None
    """Write the tables as Markdown to this file."""
    pictures: Path | None = None
    """Draw error curves and the worst pairs into this folder; of two networks, the pairs that changed most."""


def run(command: Evaluate) -> None:
    """Evaluate one or two networks, print the tables, write figures and pictures."""
    _check(command)
    loaded = load_networks(command.network, command.compare, command.matcher)
    networks = {name: network for name, (network, _) in loaded.items()}
    pairs = open_posed_pairs(command.data, images=command.images, image_size=command.image_size)
    decoding = {"decoding": 0.0}
    with timed(decoding, "decoding"):
        pairs.check_images()  # a broken one is found before the work, not in the middle
    device = choose_device(command.device)
    sweeps = {name: _sweep(network, pairs, command, device) for name, network in networks.items()}
    for report in (report for each in sweeps.values() for report in each.reports.values()):
        report.seconds["decoding"] += decoding["decoding"]  # which serves all of them: the images are kept
    # Both networks at one threshold, the one that suits the first: the second has to win on its ground.
    chosen_px = sweeps[command.network].best_px
    reports = {name: each.reports[chosen_px] for name, each in sweeps.items()}
    runs = [pair_errors(report, name) for name, report in reports.items()]
    comparison = compare(*runs) if len(runs) == 2 else None
    print(_tables(sweeps, chosen_px, comparison, markdown=False))
    write_table(command.markdown, _tables(sweeps, chosen_px, comparison, markdown=True))
    write_figures(command.json, _figures(command, sweeps, chosen_px, comparison))
    if command.pictures is not None:
        deployment = Deployment(networks, command.matcher, command.num_keypoints, command.nms_radius, chosen_px, device)
        draw_curves(runs, command.pictures)
        if comparison is None:
            draw_worst_pairs(runs[0], pairs, deployment, command.pictures)
        else:
            draw_changed_pairs(comparison, runs, pairs, deployment, command.pictures)
        print(f"pictures: {command.pictures}")


def _check(command: Evaluate) -> None:
    """Whatever can be found out before the work."""
    if not command.max_error_px or len(set(command.max_error_px)) < len(command.max_error_px):
        raise InputError(f"--max-error-px: expected different thresholds, got {command.max_error_px}")
    for max_error_px in command.max_error_px:
        check_settings(command.num_keypoints, command.nms_radius, max_error_px, command.seed)
    check_can_write(command.json)
    check_can_write(command.markdown)
    check_picture_folder(command.pictures)


def _sweep(network: nn.Module, pairs: OpenedPairs, command: Evaluate, device: torch.device) -> Sweep:
    return sweep(
        network,
        pairs,
        max_errors_px=command.max_error_px,
        matcher=command.matcher,
        estimator=command.estimator,
        num_keypoints=command.num_keypoints,
        nms_radius=command.nms_radius,
        device=device,
        seed=command.seed,
        progress=True,
    )


def _tables(sweeps: Mapping[str, Sweep], chosen_px: float, comparison: Comparison | None, *, markdown: bool) -> str:
    """Everything that is printed: for each network thresholds and scenes, then the comparison."""
    scenes = format_scenes_markdown if markdown else format_scenes
    blocks = []
    for name, each in sweeps.items():
        if markdown or len(sweeps) > 1:
            blocks.append(f"## {name}" if markdown else f"{name}:")
        if len(each.reports) > 1:
            blocks.append(format_sweep(each, markdown=markdown))
        blocks.append(scenes(each.reports[chosen_px]))
    if comparison is not None:
        title = f"{comparison.second} beside {comparison.first}"
        blocks += [f"## {title}" if markdown else f"{title}:", format_comparison(comparison, markdown=markdown)]
    return "\n\n".join(blocks)


def _figures(
    command: Evaluate, sweeps: Mapping[str, Sweep], chosen_px: float, comparison: Comparison | None
) -> dict[str, Any]:
    """One network's figures at the top; all thresholds, the second network and the comparison beneath."""
    data = [str(folder) for folder in command.data]
    each = {
        name: {**asdict(found.reports[chosen_px]), "network": name, "data": data, **_other_thresholds(found)}
        for name, found in sweeps.items()
    }
    if comparison is None or command.compare is None:
        return each[command.network]
    return {**each[command.network], "compared": each[command.compare], "comparison": asdict(comparison)}


def _other_thresholds(found: Sweep) -> dict[str, Any]:
    if len(found.reports) == 1:
        return {}
    reports = {f"{threshold:g}": asdict(report) for threshold, report in found.reports.items()}
    return {"best_max_error_px": found.best_px, "sweep": reports}
