"""``rfp match``: the matches between two images, as a picture and as figures."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from rfp.cli.device import choose_device
from rfp.cli.output import check_can_write, write_figures
from rfp.data.images import read_image, resize_image
from rfp.evaluation import EstimatorName, check_settings, estimate_pose, fundamental_inliers, match_features
from rfp.geometry.camera import scale_intrinsics
from rfp.models import load_network
from rfp.plotting import DrawnMatches, draw_matches, save_figure
from rfp.records import Features, InputError
from rfp.rollout import detect


@dataclass(frozen=True)
class Match:
    """Match two images, verify the matches by their geometry, and draw them.

    Without --focal-px the matches are verified by a fundamental matrix (OpenCV's MAGSAC++), which needs no cameras.
    With it they are verified by a relative pose, which is printed: X2 = R X1 + t, t a direction.

    Example: rfp match a.jpg b.jpg --output matches.png
    """

    image1: Annotated[Path, tyro.conf.Positional]
    """The first image; turned as its EXIF orientation says."""
    image2: Annotated[Path, tyro.conf.Positional]
    """The second image."""
    output: Path = Path("matches.png")
    """The picture to write: .png, .jpg, .pdf or .svg."""
    network: str = "aliked-t16"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    focal_px: tuple[float, ...] = ()
    """Focal length in pixels of the stored images, one for both or one each; the principal point is the middle."""
    estimator: EstimatorName = "poselib"
    """Who estimates the pose, with --focal-px."""
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


def run(command: Match) -> None:
    """Match, verify, draw, and say what was found."""
    if len(command.focal_px) > 2 or any(not 0 < focal < math.inf for focal in command.focal_px):
        raise InputError(f"--focal-px: expected one or two positive numbers, got {command.focal_px}")
    check_settings(command.num_keypoints, command.nms_radius, command.max_error_px, command.seed)
    check_can_write(command.json)
    check_can_write(command.output)
    images, scales = [], []
    for path in (command.image1, command.image2):
        image, scale = resize_image(read_image(path, upright=True), command.image_size)
        images.append(image)
        scales.append(scale)
    network = load_network(command.network)
    device = choose_device(command.device)
    network = network.to(device)
    features = [_detect(network, image.to(device), command) for image in images]
    xy1_px, xy2_px = (xy.cpu() for xy in match_features(*features))

    figures = _verify(command, xy1_px, xy2_px, images, scales)
    inliers = torch.tensor(figures["inliers"], dtype=torch.bool)
    drawn = DrawnMatches(xy1_px, xy2_px, inliers=inliers)
    save_figure(draw_matches(images[0], images[1], drawn, title=command.network), command.output)
    print(f"{len(inliers)} mutual matches, {figures['num_inliers']} inliers of the {figures['verified_by']}")
    if "rotation_deg" in figures:
        direction = ", ".join(f"{value:.3f}" for value in figures["t"])
        print(f"relative pose: rotation of {figures['rotation_deg']:.2f}°, translation along ({direction})")
    print(f"picture: {command.output}")
    num_keypoints = [int(each.valid.sum()) for each in features]
    write_figures(command.json, {"network": command.network, "num_keypoints": num_keypoints, **figures})


def _detect(network, image: Float[Tensor, "3 h w"], command: Match) -> Features:
    return detect(network, image[None], num_keypoints=command.num_keypoints, nms_radius=command.nms_radius)


def _verify(
    command: Match, xy1_px: Tensor, xy2_px: Tensor, images: list[Tensor], scales: list[tuple[float, float]]
) -> dict[str, Any]:
    """The inliers and what they agree on; positions in pixels of the images before resizing."""
    stored = [(xy + 0.5) / torch.tensor(scale) - 0.5 for xy, scale in zip((xy1_px, xy2_px), scales)]
    figures: dict[str, Any] = {"matches": torch.cat(stored, dim=1).tolist()}
    if not command.focal_px:
        inliers = fundamental_inliers(xy1_px, xy2_px, max_error_px=command.max_error_px)
        return {**figures, **_inlier_figures("fundamental matrix", inliers)}
    K1, K2 = (
        _intrinsics(focal, image, scale)
        for focal, image, scale in zip((command.focal_px * 2)[:: len(command.focal_px)][:2], images, scales)
    )
    pose = estimate_pose(
        command.estimator, xy1_px, xy2_px, K1, K2, max_error_px=command.max_error_px, seed=command.seed
    )
    figures |= _inlier_figures("relative pose", pose.inliers)
    if pose.valid:
        angle = torch.acos(((pose.R.trace() - 1) / 2).clamp(-1, 1))
        figures |= {"R": pose.R.tolist(), "t": pose.t.tolist(), "rotation_deg": math.degrees(angle.item())}
    return figures


def _inlier_figures(verified_by: str, inliers: Tensor) -> dict[str, Any]:
    return {"verified_by": verified_by, "num_inliers": int(inliers.sum()), "inliers": inliers.tolist()}


def _intrinsics(focal_px: float, image: Tensor, scale: tuple[float, float]) -> Float[Tensor, "3 3"]:
    """K of the resized image from the focal length of the stored one."""
    width, height = image.shape[-1] / scale[0], image.shape[-2] / scale[1]
    K = torch.tensor([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return scale_intrinsics(K, *scale)
