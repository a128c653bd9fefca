"""``rfp localize``: how exactly a network's features place an image in a scene that other images make."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from rfp.cli.device import choose_device
from rfp.cli.networks import load_networks
from rfp.cli.output import check_can_write, write_figures, write_table
from rfp.evaluation.absolute_pose_estimators import AbsolutePoseEstimatorName
from rfp.evaluation.localization import (
    THRESHOLDS,
    LocalizationOptions,
    evaluate_localization,
    posed_names,
)
from rfp.evaluation.localization_report import format_localizations
from rfp.evaluation.true_poses import read_true_poses
from rfp.export.detection import DetectionOptions
from rfp.export.image_folder import check_images, open_image_folder
from rfp.matching.match import MatcherName
from rfp.optional import require
from rfp.records import InputError


@dataclass(frozen=True)
class Localize:
    """Localise each image of a posed scene against the others by a network's key points and matches.

    The images are dealt into folds. For each fold, the others' images with their true poses make a scene: their matched
    key points are triangulated. The images of the fold are queries: they are matched with the scene's images, which
    gives points of the scene for their key points, and from these the pose by P3P in RANSAC.

    IMAGES is a folder of posed pairs whose translations have one scale, or a folder of images with --truth, a COLMAP
    model of them. Distances are in the units of the truth: choose --thresholds that mean something in them. A query
    without a pose counts, as one that is infinitely far off.

    In use:
      a posed-pairs folder:      rfp localize strecha_fountain_p11 --thresholds 0.01 0.1 0.05 0.5
      against a COLMAP model:    rfp localize photos/ --truth sparse/0
      before and after:          rfp localize lund_door --network aliked-t16 --compare runs/2026-05-01
    """

    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """Folder of images, at any depth, or of posed pairs."""
    truth: Path | None = None
    """A COLMAP model of these images, or a folder of posed pairs of them."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    compare: str | None = None
    """A second network on the same images: the trained one beside the one that it began with."""
    detection: Annotated[DetectionOptions, tyro.conf.arg(name="")] = field(default_factory=DetectionOptions)
    matcher: MatcherName = "mutual"
    """Mutual nearest neighbours, ratio test, dual softmax or LightGlue."""
    estimator: AbsolutePoseEstimatorName = "poselib"
    """Who estimates the pose: poselib, pycolmap or rfp."""
    max_error_px: float = 4.0
    """Inlier threshold in pixels of the stored images: of the scene's points, and of the query's pose."""
    folds: int = 4
    """Parts into which the images are dealt; as many as there are images leaves one out each time."""
    thresholds: tuple[tuple[float, float], ...] = THRESHOLDS
    """Distance and degrees, within which shares of the queries are counted: 0.25 2 0.5 5 5 10 in metres by default."""
    seed: int = 0
    """Of the estimator's samples."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""
    json: Path | None = None
    """Write the figures, image by image, to this file."""
    markdown: Path | None = None
    """Write the table as Markdown to this file."""


def run(command: Localize) -> None:
    """Localise with one or two networks, print the table, write the figures."""
    check_can_write(command.json)
    check_can_write(command.markdown)
    require("pycolmap", extra="colmap")
    options = LocalizationOptions(
        detection=command.detection,
        estimator=command.estimator,
        max_error_px=command.max_error_px,
        folds=command.folds,
        thresholds=command.thresholds,
        seed=command.seed,
    )
    images = open_image_folder(command.images)
    source = command.truth or (command.images if images.posed_pairs else None)
    if source is None:
        raise InputError(f"{command.images}: no pairs.json, so no poses are known; give --truth MODEL")
    truth = read_true_poses(source)
    images = replace(images, names=tuple(posed_names(images, truth, options.folds)))
    check_images(images)  # a broken one is found before the work, not in the middle
    loaded = load_networks(command.network, command.compare, command.matcher)
    device = choose_device(command.device)
    reports = {
        name: evaluate_localization(
            network, images, truth, options=replace(options, matcher=matcher), device=device, progress=True
        )
        for name, (network, matcher) in loaded.items()
    }
    print(format_localizations(reports))
    write_table(command.markdown, format_localizations(reports, markdown=True))
    figures = {"images": str(command.images), "truth": str(source)}
    write_figures(command.json, {**figures, "networks": {name: asdict(report) for name, report in reports.items()}})
