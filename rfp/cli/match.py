"""``rfp match``: the matches between two images, as pictures and as figures."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from jaxtyping import Bool, Float
from torch import Tensor

from rfp.cli.device import choose_device
from rfp.cli.output import check_can_write, write_figures
from rfp.cli.two_views import TruePose, find_truth, fundamental_of_inliers
from rfp.data.images import read_image, resize_image
from rfp.evaluation import EstimatorName, check_settings, estimate_pose, fundamental_inliers, match_features
from rfp.geometry.camera import scale_intrinsics
from rfp.geometry.epipolar import sampson_distance
from rfp.geometry.pose import fundamental_from_pose, relative_pose_error
from rfp.matching.match import MatcherName, load_matcher
from rfp.models import load_network
from rfp.models.pretrained import network_name
from rfp.plotting import (
    DrawnEpipolarLines,
    DrawnHeat,
    DrawnMatches,
    draw_epipolar_lines,
    draw_heat,
    draw_matches,
    save_figure,
)
from rfp.records import Features, InputError, RelativePose
from rfp.rollout import detect, without_blank

Drawing = Literal["matches", "heat", "epipolar-lines"]


@dataclass(frozen=True)
class Match:
    """Match two images, verify the matches by their geometry, and draw them.

    The matches are verified by a fundamental matrix (OpenCV's MAGSAC++), which needs no cameras. With --focal-px they
    are verified by a relative pose, which is printed: X2 = R X1 + t, t a direction. With --truth the true pose is
    known, too: matches are coloured by their distance to its epipolar lines, and the error of the estimate is printed.

    In use:
      a picture of the matches:       rfp match a.jpg b.jpg --output matches.png
      with a relative pose:           rfp match a.jpg b.jpg --focal-px 1200
      where the detector looks:       rfp match a.jpg b.jpg --draw heat --output heat.pdf
      all three, out-matches.png, …:  rfp match a.jpg b.jpg --draw matches heat epipolar-lines --output out.png
      against the true pose:          rfp match door/images/1.jpg door/images/4.jpg --truth door
      another network or matcher:     rfp match a.jpg b.jpg --network runs/2026-05-01 --matcher ratio
    """

    image1: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE1")]
    """The first image; turned as its EXIF orientation says, but not with --truth, which is about pixels as stored."""
    image2: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE2")]
    """The second image."""
    output: Path = Path("matches.png")
    """The picture to write: .png, .jpg, .pdf or .svg; the name of each drawing is added where there are several."""
    draw: tuple[Drawing, ...] = ("matches",)
    """Matches coloured by epipolar error; heat maps of the detector with its key points; epipolar lines of a dozen
    matches."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    matcher: MatcherName = "mutual"
    """Mutual nearest neighbours, ratio test, dual softmax or LightGlue."""
    truth: Path | None = None
    """Folder of posed pairs that has a record of these two images."""
    focal_px: tuple[float, ...] = ()
    """Focal length in pixels of the stored images, one for both or one each; the principal point is the middle."""
    estimator: EstimatorName = "poselib"
    """Who estimates the pose, with --focal-px or --truth."""
    image_size: int | None = 640
    """Longer side to which the images are resized; None keeps the stored size."""
    num_keypoints: int = 1024
    """Key points an image."""
    nms_radius: int = 2
    """Radius of the non-maximum suppression in pixels."""
    max_error_px: float = 1.0
    """Inlier threshold, in pixels of the resized images."""
    seed: int = 0
    """Of the estimator's samples."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, cuda:0 or mps."""
    json: Path | None = None
    """Write the matches, in pixels of the images before resizing, to this file."""


@dataclass(frozen=True)
class _View:
    """One of the two images, resized, and what the network finds in it."""

    image: Float[Tensor, "3 h w"]
    scale: tuple[float, float]
    K: Float[Tensor, "3 3"] | None
    """Of the resized image, where a focal length or the truth is given."""
    features: Features


@dataclass(frozen=True)
class _Geometry:
    """What the matches agree on, and the epipolar geometry that they are drawn with."""

    verified_by: str
    inliers: Bool[Tensor, "M"]
    pose: RelativePose | None = None
    F: Float[Tensor, "3 3"] | None = None
    """In pixels of the resized images: true, or else estimated; None where the matches determine none."""


def run(command: Match) -> None:
    """Match, verify, draw, and say what was found."""
    outputs = _check(command)
    truth = find_truth(command.truth, command.image1, command.image2) if command.truth else None
    images = [
        resize_image(read_image(path, upright=truth is None), command.image_size)
        for path in (command.image1, command.image2)
    ]
    cameras = _intrinsics(command, truth, images)
    network = load_network(command.network)
    matcher = load_matcher(command.matcher, network=network_name(network))
    network = network.to(device := choose_device(command.device))
    views = [
        _View(image, scale, K, _detect(network, image.to(device), command))
        for (image, scale), K in zip(images, cameras)
    ]
    size1, size2 = ((view.image.shape[-2], view.image.shape[-1]) for view in views)
    matched = match_features(views[0].features, views[1].features, matcher, size1=size1, size2=size2)
    xy1_px, xy2_px = (xy.cpu() for xy in matched)
    geometry = _verify(command, xy1_px, xy2_px, views, truth)
    figures = _figures(command, xy1_px, xy2_px, views, geometry, truth)
    for drawing, path in outputs.items():
        if drawing == "heat":
            figure = draw_heat([_heat(network, view, device) for view in views], title=command.network)
        else:
            figure = (_matches if drawing == "matches" else _lines)(command, xy1_px, xy2_px, views, geometry)
        save_figure(figure, path)
    _say(figures, outputs)
    write_figures(command.json, figures)


def _check(command: Match) -> dict[Drawing, Path]:
    """The picture to write for each drawing, after everything that can be found wrong before the work."""
    if len(command.focal_px) > 2 or any(not 0 < focal < math.inf for focal in command.focal_px):
        raise InputError(f"--focal-px: expected one or two positive numbers, got {command.focal_px}")
    if command.focal_px and command.truth:
        raise InputError("--focal-px and --truth: the truth holds the focal lengths; give one of the two")
    if not command.draw or len(set(command.draw)) < len(command.draw):
        raise InputError(f"--draw: expected one or more different drawings, got {' '.join(command.draw) or 'none'}")
    check_settings(command.num_keypoints, command.nms_radius, command.max_error_px, command.seed)
    several, path = len(command.draw) > 1, command.output
    outputs: dict[Drawing, Path] = {
        each: path.with_stem(f"{path.stem}-{each}") if several else path for each in command.draw
    }
    for path in (command.json, *outputs.values()):
        check_can_write(path)
    return outputs


def _detect(network, image: Float[Tensor, "3 h w"], command: Match) -> Features:
    return detect(network, image[None], num_keypoints=command.num_keypoints, nms_radius=command.nms_radius)


def _intrinsics(command: Match, truth: TruePose | None, images: list) -> list[Float[Tensor, "3 3"] | None]:
    """K of the resized images: the true ones, those of a focal length and a centred principal point, or none."""
    if truth is not None:
        return [scale_intrinsics(K, *scale) for K, (_, scale) in zip((truth.K1, truth.K2), images)]
    if not command.focal_px:
        return [None, None]
    focal_lengths = (command.focal_px * 2)[:: len(command.focal_px)][:2]
    cameras = []
    for focal, (image, scale) in zip(focal_lengths, images):
        width, height = image.shape[-1] / scale[0], image.shape[-2] / scale[1]
        K = torch.tensor([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
        cameras.append(scale_intrinsics(K, *scale))
    return cameras


def _verify(command: Match, xy1_px: Tensor, xy2_px: Tensor, views: list[_View], truth: TruePose | None) -> _Geometry:
    K1, K2 = (view.K for view in views)
    if K1 is None or K2 is None:
        inliers = fundamental_inliers(xy1_px, xy2_px, max_error_px=command.max_error_px)
        return _Geometry("fundamental matrix", inliers, F=fundamental_of_inliers(xy1_px, xy2_px, inliers))
    pose = estimate_pose(
        command.estimator, xy1_px, xy2_px, K1, K2, max_error_px=command.max_error_px, seed=command.seed
    )
    known = truth or (pose if pose.valid else None)
    F = fundamental_from_pose(K1.cpu(), K2.cpu(), known.R.cpu(), known.t.cpu()) if known else None
    return _Geometry("relative pose", pose.inliers, pose if pose.valid else None, F)


def _figures(
    command: Match,
    xy1_px: Tensor,
    xy2_px: Tensor,
    views: list[_View],
    geometry: _Geometry,
    truth: TruePose | None,
) -> dict[str, Any]:
    """What the JSON holds; positions in pixels of the images before resizing."""
    stored = [(xy + 0.5) / torch.tensor(view.scale) - 0.5 for xy, view in zip((xy1_px, xy2_px), views)]
    figures: dict[str, Any] = {
        "network": command.network,
        "num_keypoints": [int(view.features.valid.sum()) for view in views],
        "matches": torch.cat(stored, dim=1).tolist(),
        "verified_by": geometry.verified_by,
        "num_inliers": int(geometry.inliers.sum()),
        "inliers": geometry.inliers.tolist(),
    }
    pose = geometry.pose
    if pose is not None:
        angle = torch.acos(((pose.R.trace() - 1) / 2).clamp(-1, 1))
        figures |= {"R": pose.R.tolist(), "t": pose.t.tolist(), "rotation_deg": math.degrees(angle.item())}
    if pose is not None and truth is not None:
        R, t = pose.R.double().cpu(), pose.t.double().cpu()
        errors = relative_pose_error(R, t, truth.R, truth.t, fold_translation=True)
        figures |= {f"{name}_error_deg": math.degrees(e.item()) for name, e in zip(("rotation", "translation"), errors)}
    if geometry.F is not None:
        figures["epipolar_error_px"] = _errors_px(xy1_px, xy2_px, geometry.F).tolist()
    return figures


def _errors_px(xy1_px: Tensor, xy2_px: Tensor, F: Float[Tensor, "3 3"]) -> Float[Tensor, "M"]:
    return sampson_distance(xy1_px.double(), xy2_px.double(), F).sqrt()


def _heat(network, view: _View, device: torch.device) -> DrawnHeat:
    images = view.image[None].to(device)
    with torch.no_grad():
        log_heat = without_blank(network.extract(images).log_heat, images)[0]
    return DrawnHeat(view.image, log_heat, view.features.xy_px[view.features.valid])


def _matches(command: Match, xy1_px: Tensor, xy2_px: Tensor, views: list[_View], geometry: _Geometry):
    drawn = DrawnMatches(
        xy1_px,
        xy2_px,
        error_px=None if geometry.F is None else _errors_px(xy1_px, xy2_px, geometry.F),
        inliers=geometry.inliers,
        geometry=f"{'true' if command.truth else 'estimated'} epipolar geometry",
    )
    return draw_matches(views[0].image, views[1].image, drawn, max_error_px=command.max_error_px, title=command.network)


def _lines(command: Match, xy1_px: Tensor, xy2_px: Tensor, views: list[_View], geometry: _Geometry):
    if geometry.F is None:
        raise InputError(
            f"{command.image1} and {command.image2}: too few of {len(xy1_px)} matches agree on an epipolar geometry to "
            "draw its lines; draw matches or heat, or give --truth"
        )
    title = f"{command.network}, {'true' if command.truth else 'estimated'} geometry"
    inliers = geometry.inliers
    drawn = DrawnEpipolarLines(
        views[0].image, views[1].image, xy1_px[inliers], xy2_px[inliers], geometry.F, title=title
    )
    return draw_epipolar_lines([drawn])


def _say(figures: dict[str, Any], outputs: dict[Drawing, Path]) -> None:
    count = len(figures["inliers"])
    print(f"{count} matches, {figures['num_inliers']} inliers of the {figures['verified_by']}")
    if "rotation_deg" in figures:
        direction = ", ".join(f"{value:.3f}" for value in figures["t"])
        print(f"relative pose: rotation of {figures['rotation_deg']:.2f}°, translation along ({direction})")
    if "rotation_error_deg" in figures:
        rotation, translation = figures["rotation_error_deg"], figures["translation_error_deg"]
        print(f"error to the true pose: rotation {rotation:.2f}°, translation {translation:.2f}°")
    for path in outputs.values():
        print(f"picture: {path}")
