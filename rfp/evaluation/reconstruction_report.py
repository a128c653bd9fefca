"""How much a reconstruction holds, and how true it is.

The third experiment of Reinforced Feature Points (A. Bhowmik et al., CVPR 2020), with the figures of J. Schönberger et
al., Comparative evaluation of hand-crafted and learned local features (CVPR 2017).
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rfp.evaluation.alignment import align_points, align_rotations
from rfp.evaluation.auc import FAILED_DEG, pose_auc
from rfp.evaluation.reconstruction import MappingOptions, reconstruct, registered_poses
from rfp.evaluation.tables import describe_features, with_notes
from rfp.evaluation.true_poses import TruePose, TruePoses, relative_pose
from rfp.export.image_folder import ImageFolder
from rfp.geometry.pose import relative_pose_error
from rfp.matching.match import load_matcher
from rfp.models.pretrained import network_name
from rfp.models.state import device_of
from rfp.optional import require
from rfp.records import InputError


@dataclass(frozen=True)
class PoseFigures:
    """The registered images' poses beside the true ones."""

    auc: dict[str, float]
    """AUC at "5", "10" and "20" degrees of the relative poses of the true pairs, in percent: needs no alignment."""
    errors_deg: list[float]
    """The larger of rotation and translation error of each true pair; 180 where an image is not registered."""
    num_pairs: int
    num_unregistered: int
    """Pairs with an image that is not registered."""
    position_errors: dict[str, float] | None
    """By image, in units of the true scene, after the similarity that brings the camera centres nearest to the true
    ones; None where the truth has no single poses, or fewer than three of its images are registered."""
    rotation_errors_deg: dict[str, float] | None
    """By image, after the turn that brings the orientations nearest to the true ones."""
    extent: float | None
    """The largest distance between two true cameras: what the position errors are to be compared with."""


@dataclass(frozen=True)
class ReconstructionReport:
    """What :func:`evaluate_reconstruction` found. Of several models, the one with the most images counts."""

    num_images: int
    num_registered: int
    num_points: int
    num_observations: int
    mean_track_length: float
    """Images in which a point was seen."""
    mean_reprojection_error_px: float
    """In pixels of the stored images. Fewer and easier points have a smaller one: read it beside the others."""
    num_models: int
    registered: list[str]
    poses: PoseFigures | None
    """None without a truth."""
    database: dict[str, int]
    """Key points, matches and verified inliers that the mapping started from."""
    settings: dict[str, Any]
    seconds: dict[str, float]


def evaluate_reconstruction(
    network: nn.Module,
    images: ImageFolder,
    workspace: str | Path,
    *,
    truth: TruePoses | None = None,
    options: MappingOptions | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> ReconstructionReport:
    """The figures of :func:`reconstruct`, with the poses' errors where a truth is given.

    Raises:
        InputError: as ``reconstruct``, or a truth of other images.

    Example:
        >>> images, truth = open_image_folder("lund_door"), read_true_poses("lund_door")  # doctest: +SKIP
        >>> report = evaluate_reconstruction(network, images, "out", truth=truth)  # doctest: +SKIP
    """
    options = MappingOptions() if options is None else options
    if isinstance(options.matcher, str):
        options = replace(options, matcher=load_matcher(options.matcher, network=network_name(network)))
    truth = None if truth is None else truth_of(images, truth)
    seconds: dict[str, float] = {}
    models, counts = reconstruct(
        network, images, workspace, options=options, device=device, seconds=seconds, progress=progress
    )
    poses = registered_poses(models[0]) if models else {}
    return ReconstructionReport(
        num_images=len(images.names),
        num_registered=len(poses),
        num_points=models[0].num_points3D() if models else 0,
        num_observations=models[0].compute_num_observations() if models else 0,
        mean_track_length=models[0].compute_mean_track_length() if models else 0.0,
        mean_reprojection_error_px=models[0].compute_mean_reprojection_error() if models else 0.0,
        num_models=len(models),
        registered=sorted(poses),
        poses=None if truth is None else compare_poses(poses, truth),
        database=asdict(counts),
        settings={
            **asdict(options.detection),
            "matching": str(options.matcher),
            **{name: getattr(options, name) for name in ("max_gap", "max_error_px", "min_inliers", "seed")},
            "intrinsics": "known" if set(images.names) <= set(images.K) else "estimated",
            "device": str(device_of(network) if device is None else device),
            "torch": torch.__version__,
            "pycolmap": require("pycolmap", extra="colmap").__version__,
        },
        seconds=seconds,
    )


def compare_poses(poses: Mapping[str, TruePose], truth: TruePoses) -> PoseFigures:
    """The errors of a reconstruction's poses: of the true pairs, and of each image after alignment by a similarity."""
    errors, num_unregistered = [], 0
    for pair in truth.pairs:
        if pair.name1 not in poses or pair.name2 not in poses:
            errors.append(FAILED_DEG)
            num_unregistered += 1
            continue
        R, t = relative_pose(poses[pair.name1], poses[pair.name2])
        angles = relative_pose_error(R, t, pair.R, pair.t, fold_translation=True)
        errors.append(math.degrees(max(angle.item() for angle in angles)))
    both = [name for name in poses if name in truth.poses]
    aligned = _aligned_errors(both, poses, truth.poses) if len(both) >= 3 else None
    centres = [pose.centre for pose in truth.poses.values()]
    return PoseFigures(
        auc={f"{threshold}": value for threshold, value in pose_auc(errors).items()},
        errors_deg=errors,
        num_pairs=len(errors),
        num_unregistered=num_unregistered,
        position_errors=aligned[0] if aligned else None,
        rotation_errors_deg=aligned[1] if aligned else None,
        extent=torch.pdist(torch.stack(centres)).max().item() if len(centres) > 1 else None,
    )


def _aligned_errors(
    names: list[str], poses: Mapping[str, TruePose], true_poses: Mapping[str, TruePose]
) -> tuple[dict[str, float], dict[str, float]] | None:
    centres, true_centres = (torch.stack([each[name].centre for name in names]) for each in (poses, true_poses))
    R, R_true = (torch.stack([each[name].R for name in names]) for each in (poses, true_poses))
    to_truth = align_points(centres, true_centres)
    if to_truth is None:
        return None
    distances = torch.linalg.vector_norm(to_truth(centres) - true_centres, dim=-1)
    turned = R @ align_rotations(R, R_true).T
    angles, _ = relative_pose_error(turned, centres, R_true, centres, fold_translation=False)
    return dict(zip(names, distances.tolist())), dict(zip(names, angles.rad2deg().tolist()))


def truth_of(images: ImageFolder, truth: TruePoses) -> TruePoses:
    """What the truth says of the folder's images: a folder may hold a part of them.

    Raises:
        InputError: no true pair is of two images of the folder.
    """
    known = set(images.names)
    pairs = [pair for pair in truth.pairs if pair.name1 in known and pair.name2 in known]
    if not pairs:
        named = truth.pairs[0].name1 if truth.pairs else "no pair"
        raise InputError(
            f"{images.root}: expected images that the truth names ({named}, …), got {images.names[0]}, …; "
            "names are paths below the folder of images"
        )
    return replace(truth, pairs=pairs, poses={name: pose for name, pose in truth.poses.items() if name in known})


def with_intrinsics(images: ImageFolder, truth: TruePoses | None, *, known: bool) -> ImageFolder:
    """The folder with the intrinsics that it or the truth tells, or without any."""
    if not known:
        return replace(images, K={})
    names = set(images.names)
    told = {} if truth is None else {name: K for name, K in truth.intrinsics.items() if name in names}
    return replace(images, K={**told, **images.K})


def format_reconstructions(reports: Mapping[str, ReconstructionReport], *, markdown: bool = False) -> str:
    """One row a report, and under them the settings that they share."""
    header = ["", "images", "points", "obs.", "track", "reproj.", "AUC@5", "@10", "@20", "position", "rotation"]
    rows = [[name, *_columns(report)] for name, report in reports.items()]
    first = next(iter(reports.values()))
    settings = first.settings
    extent = first.poses.extent if first.poses else None
    notes = [
        f"{settings['intrinsics']} intrinsics, pairs verified at {settings['max_error_px']:g} px of the stored images "
        f"with at least {settings['min_inliers']} inliers, pycolmap {settings['pycolmap']}",
        describe_features(settings),
    ]
    if extent is not None:
        notes.append(f"position: median, in units of the scene, whose cameras span {extent:.3g}")
    return with_notes([header, *rows], notes, markdown=markdown)


def _columns(report: ReconstructionReport) -> list[str]:
    poses = report.poses
    auc = ["–"] * 3 if poses is None else [f"{value:.1f}" for value in poses.auc.values()]
    position = rotation = "–"
    if poses is not None and poses.position_errors and poses.rotation_errors_deg:
        position = f"{statistics.median(poses.position_errors.values()):.3g}"
        rotation = f"{statistics.median(poses.rotation_errors_deg.values()):.2f}°"
    return [
        f"{report.num_registered}/{report.num_images}",
        str(report.num_points),
        str(report.num_observations),
        f"{report.mean_track_length:.2f}",
        f"{report.mean_reprojection_error_px:.2f} px",
        *auc,
        position,
        rotation,
    ]
