"""``rfp export``: features, matches and weights in the formats of other tools, one subcommand a format.

A new format is a dataclass with its options and one entry of ``FORMATS``.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from rfp.cli.device import choose_device
from rfp.cli.export_network import Onnx, Pt2, Weights, write_onnx_files, write_pt2_files, write_weights
from rfp.export.colmap import export_colmap
from rfp.export.complete_files import check_may_write
from rfp.export.detection import DetectionOptions
from rfp.export.hloc import FEATURES_FILE, check_names, export_hloc
from rfp.export.image_folder import ExhaustivePairs, ImageFolder, check_images, open_image_folder, read_pair_list
from rfp.matching.match import MatcherName
from rfp.models import load_network
from rfp.records import InputError

MANY_PAIRS = 20_000


@dataclass(frozen=True)
class Hloc:
    """Features and matches for hloc: OUT/features.h5, OUT/matches.h5 and OUT/pairs.txt.

    The three files are what hloc's extract_features, match_features and pairs_from_* write: give them to its
    reconstruction, triangulation or localize_sfm. Key points are in pixels of the images as stored; hloc adds COLMAP's
    half pixel itself. Descriptors and scores are float16 as hloc's, key points float32.

    IMAGES is a folder of images, or a folder of posed pairs (images/ and pairs.json).

    In use:
      every two images:       rfp export hloc photos/ out/
      pairs of a list:        rfp export hloc photos/ out/ --pairs pairs-netvlad.txt
      features alone:         rfp export hloc photos/ out/ --no-matches
      trained weights:        rfp export hloc photos/ out/ --network runs/2026-05-01
      then, in Python:        hloc.reconstruction.main(sfm_folder, photos, pairs, features, matches)
    """

    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """Folder of images, at any depth, or of posed pairs."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write to; made if it is not there."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    detection: Annotated[DetectionOptions, tyro.conf.arg(name="")] = field(default_factory=DetectionOptions)
    matcher: MatcherName = "mutual"
    """Mutual nearest neighbours, ratio test, dual softmax or LightGlue."""
    pairs: Path | None = None
    """Text file, two names a line. Default: the pairs of a folder of posed pairs, else every two images."""
    matches: bool = True
    """Match the images, too."""
    half: bool = True
    """Descriptors and scores as float16; --no-half writes float32."""
    overwrite: bool = False
    """Replace files that are there already."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""


@dataclass(frozen=True)
class Colmap:
    """A COLMAP database of features, matches and verified pairs, ready for the mapper.

    Matches are verified by COLMAP's own two-view geometries. Cameras are PINHOLE with the intrinsics of pairs.json, if
    IMAGES is a folder of posed pairs; else COLMAP's guess from EXIF, or 1.2 times the longer side (SIMPLE_RADIAL).

    In use:
      every two images:       rfp export colmap photos/ database.db
      one camera took all:    rfp export colmap photos/ database.db --one-camera
      posed pairs, their K:   rfp export colmap lund_door/ database.db
      then:                   mkdir -p model
                              colmap mapper --database_path database.db --image_path photos --output_path model
      or, in Python:          pycolmap.incremental_mapping("database.db", "photos", "model")

    The mapper refines intrinsics unless --Mapper.ba_refine_focal_length 0 tells it not to; do that with known ones.
    """

    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """Folder of images, at any depth, or of posed pairs."""
    database: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATABASE")]
    """The file to write."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    detection: Annotated[DetectionOptions, tyro.conf.arg(name="")] = field(default_factory=DetectionOptions)
    matcher: MatcherName = "mutual"
    """Mutual nearest neighbours, ratio test, dual softmax or LightGlue."""
    pairs: Path | None = None
    """Text file, two names a line. Default: the pairs of a folder of posed pairs, else every two images."""
    one_camera: bool = False
    """Images of one size whose intrinsics are unknown were taken by one camera; without it each has its own."""
    verify: bool = True
    """Keep the matches that a two-view geometry of COLMAP agrees with; --no-verify believes all of them."""
    max_error_px: float = 4.0
    """Of the verification, in pixels of the stored images; COLMAP's default."""
    min_inliers: int = 15
    """Pairs with fewer inliers are not used in mapping; COLMAP's default."""
    overwrite: bool = False
    """Replace a database that is there already."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""


def write_hloc(command: Hloc) -> None:
    """Detect, match, write hloc's files, and say what they hold."""
    check_may_write(command.output / FEATURES_FILE, overwrite=command.overwrite)
    images = open_image_folder(command.images)
    check_names(images.names)
    pairs = _pairs(images, command.pairs) if command.matches else None
    check_images(images)
    counts = export_hloc(
        load_network(command.network).to(device := choose_device(command.device)),
        images,
        command.output,
        pairs=pairs,
        detection=command.detection,
        matcher=command.matcher,
        device=device,
        half=command.half,
        overwrite=command.overwrite,
        progress=True,
    )
    print(f"{counts.num_images} images with {_mean(counts.num_keypoints, counts.num_images)} key points each")
    if pairs is not None:
        print(f"{counts.num_pairs} pairs with {_mean(counts.num_matches, counts.num_pairs)} matches each")
    print(f"hloc's files: {command.output}; image folder: {images.root}")


def write_colmap(command: Colmap) -> None:
    """Detect, match, verify, write the database, and say what it holds and how to map from it."""
    check_may_write(command.database, overwrite=command.overwrite)
    images = open_image_folder(command.images)
    pairs = _pairs(images, command.pairs)
    check_images(images)
    counts = export_colmap(
        load_network(command.network).to(device := choose_device(command.device)),
        images,
        command.database,
        pairs=pairs,
        detection=command.detection,
        matcher=command.matcher,
        device=device,
        one_camera=command.one_camera,
        verify=command.verify,
        max_error_px=command.max_error_px,
        min_inliers=command.min_inliers,
        overwrite=command.overwrite,
        progress=True,
    )
    cameras = f"{counts.num_cameras} camera" + ("s" if counts.num_cameras != 1 else "")
    known = "known" if images.K else "guessed, refined by mapping"
    print(
        f"{counts.num_images} images with {_mean(counts.num_keypoints, counts.num_images)} key points each, "
        f"{cameras} ({known})"
    )
    print(
        f"{counts.num_pairs} pairs with {_mean(counts.num_matches, counts.num_pairs)} matches each; "
        f"{counts.num_verified_pairs} verified, {_mean(counts.num_inliers, counts.num_verified_pairs)} inliers each"
    )
    # COLMAP refines intrinsics unless told not to, and with few images drifts away from right ones.
    keep = " --Mapper.ba_refine_focal_length 0 --Mapper.ba_refine_extra_params 0" if images.K else ""
    print(
        f"database: {command.database}; next:\n  mkdir -p model && colmap mapper --database_path {command.database} "
        f"--image_path {images.root} --output_path model{keep}"
    )


def _pairs(images: ImageFolder, path: Path | None) -> Iterable[tuple[str, str]]:
    """The pairs to match: those of a list, else the posed ones, else every two images.

    Raises:
        InputError: a single image, or a list that cannot be used.
    """
    if path is not None:
        listed = read_pair_list(path, images.names)
        if listed.num_duplicates:
            print(f"{path}: {listed.num_duplicates} repeated pairs left out, in either order", file=sys.stderr)
        return listed.pairs
    if images.posed_pairs:
        return images.posed_pairs
    pairs = ExhaustivePairs(images.names)
    if not len(pairs):
        raise InputError(f"{images.root}: expected at least two images to match, found one; add another")
    if len(pairs) > MANY_PAIRS:
        print(f"{len(pairs)} pairs, every two of {len(images.names)} images; --pairs FILE names fewer", file=sys.stderr)
    return pairs


def _mean(total: int, count: int) -> str:
    return f"{total / max(count, 1):.0f}"


FORMATS: dict[type, tuple[str, Callable[[Any], None]]] = {
    Hloc: ("hloc", write_hloc),
    Colmap: ("colmap", write_colmap),
    Weights: ("weights", write_weights),
    Onnx: ("onnx", write_onnx_files),
    Pt2: ("pt2", write_pt2_files),
}
"""The options of each format, its name on the command line, and the function that writes it."""

Format = Union[tuple(Annotated[options, tyro.conf.subcommand(name)] for options, (name, _) in FORMATS.items())]  # type: ignore[valid-type]  # noqa: UP007


@dataclass(frozen=True)
class Export:
    """Write features, matches or weights for another tool: one subcommand a format.

    rfp export hloc --help, and so on, explains the format and shows examples.
    """

    format: Annotated[Format, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    """The format."""


def run(command: Export) -> None:
    """Write the format that was asked for."""
    FORMATS[type(command.format)][1](command.format)
