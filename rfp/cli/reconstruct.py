"""``rfp reconstruct``: structure from motion from a network's features, and how true it is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from rfp.cli.device import choose_device
from rfp.cli.networks import load_networks
from rfp.cli.output import check_can_write, write_figures, write_table
from rfp.evaluation.reconstruction import MappingOptions
from rfp.evaluation.reconstruction_report import evaluate_reconstruction, format_reconstructions, with_intrinsics
from rfp.evaluation.true_poses import read_true_poses
from rfp.export.detection import DetectionOptions
from rfp.export.image_folder import check_images, open_image_folder
from rfp.matching.match import MatcherName
from rfp.optional import require
from rfp.records import InputError


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct a folder of images with pycolmap from a network's key points and matches, and judge the result.

    IMAGES is a folder of images, or a folder of posed pairs, which is its own truth. Says how many images were
    registered, how many points in how many of them (track length), the reprojection error, and against a truth the
    AUC of the relative poses of its pairs (an image that is not registered counts as 180 degrees) and the errors of
    position and rotation after alignment by a similarity.

    In use:
      photographs of your own:   rfp reconstruct photos/ --output model
      against a COLMAP model:    rfp reconstruct photos/ --truth sparse/0
      before and after:          rfp reconstruct lund_door --network aliked-t16 --compare runs/2026-05-01
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
    max_gap: int | None = None
    """Match each image with this many that follow it by name, as in a video; None matches every two."""
    known_intrinsics: bool = True
    """Keep the intrinsics that the truth tells; without it COLMAP estimates them."""
    max_error_px: float = 4.0
    """Inlier threshold of the pairs' geometries, in pixels of the stored images; COLMAP's default."""
    min_inliers: int = 15
    """Pairs with fewer inliers are left out; COLMAP's default."""
    num_threads: int = 1
    """Of the mapping. With more, results differ a little from run to run."""
    seed: int = 0
    """Of COLMAP's samples."""
    output: Path | None = None
    """Folder to keep the database and the models in (a subfolder a network where two are compared)."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""
    json: Path | None = None
    """Write the figures to this file."""
    markdown: Path | None = None
    """Write the table as Markdown to this file."""


def run(command: Reconstruct) -> None:
    """Reconstruct with one or two networks, print the table, write the figures."""
    check_can_write(command.json)
    check_can_write(command.markdown)
    _check_output(command.output)
    require("pycolmap", extra="colmap")
    options = MappingOptions(
        detection=command.detection,
        max_gap=command.max_gap,
        max_error_px=command.max_error_px,
        min_inliers=command.min_inliers,
        num_threads=command.num_threads,
        seed=command.seed,
    )
    images = open_image_folder(command.images)
    source = command.truth or (command.images if images.posed_pairs else None)
    truth = read_true_poses(source) if source else None
    images = with_intrinsics(images, truth, known=command.known_intrinsics)
    check_images(images)  # a broken one is found before the work, not in the middle
    loaded = load_networks(command.network, command.compare, command.matcher)
    device = choose_device(command.device)
    reports = {}
    with _workspace(command.output) as workspace:
        for number, (name, (network, matcher)) in enumerate(loaded.items(), start=1):
            folder = workspace if len(loaded) == 1 else workspace / f"network{number}"
            folder.mkdir(exist_ok=True)
            reports[name] = evaluate_reconstruction(
                network,
                images,
                folder,
                truth=truth,
                options=replace(options, matcher=matcher),
                device=device,
                progress=sys.stderr.isatty(),
            )
    print(format_reconstructions(reports))
    write_table(command.markdown, format_reconstructions(reports, markdown=True))
    if command.output:
        print(f"models: {command.output}")
    figures = {"images": str(command.images), "truth": str(source) if source else None}
    write_figures(command.json, {**figures, "networks": {name: asdict(report) for name, report in reports.items()}})


def _check_output(output: Path | None) -> None:
    if output is None:
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: expected a new or empty folder for the models, got something else; choose another")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent} to write to; make it first")


@contextmanager
def _workspace(output: Path | None) -> Iterator[Path]:
    """A folder to work in: it becomes ``output`` when everything in it is complete, or vanishes."""
    parent = None if output is None else output.absolute().parent
    with TemporaryDirectory(prefix="rfp-reconstruct-", dir=parent) as folder:
        workspace = Path(folder, "models")
        workspace.mkdir()
        yield workspace
        if output is not None:
            workspace.replace(output)  # an empty folder may stand there
