"""The true poses of single images: from a COLMAP model, or put together from the pairs of a posed-pairs folder."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.colmap_model import read_colmap_model
from rfp.data.pair_records import read_distinct_records
from rfp.data.undistortion import COLMAP_PIXEL_SHIFT, is_pinhole, pinhole_intrinsics
from rfp.export.image_folder import open_image_folder
from rfp.records import InputError

SCALE_TOLERANCE = 0.01
"""How far the translation of a pair may be from that of the poses put together, as a share of its length."""


@dataclass(frozen=True)
class TruePose:
    """Where one image was taken: ``X_camera = R X_world + t``, in float64."""

    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]

    @property
    def centre(self) -> Float[Tensor, "3"]:
        """The camera in the world: ``-Rᵀ t``."""
        return -self.R.T @ self.t


@dataclass(frozen=True)
class TruePair:
    """Two images whose relative pose is known: ``X2 = R X1 + t``, t in any scale."""

    name1: str
    name2: str
    R: Float[Tensor, "3 3"]
    t: Float[Tensor, "3"]


@dataclass(frozen=True)
class TruePoses:
    """What is known about the images of a scene, by their names below the folder of images."""

    pairs: list[TruePair]
    """Those of the folder; all pairs of a COLMAP model."""
    poses: dict[str, TruePose]
    """Empty where the pairs of a folder do not make one scene of one scale."""
    intrinsics: dict[str, Float[Tensor, "3 3"]]
    """Of the images with a pinhole camera: pixels as stored, pixel (0, 0) being the centre of the top-left pixel."""
    cameras: dict[str, Any]
    """The ``pycolmap.Camera`` of each image of a COLMAP model, distortion included."""


def read_true_poses(source: str | Path) -> TruePoses:
    """The true poses in a posed-pairs folder or a COLMAP model.

    Raises:
        InputError: neither of them, or a record or a model that cannot be used.
    """
    source = Path(source)
    if (source / "pairs.json").exists():
        return _of_pairs(source)
    if source.is_dir() and not any(source.glob("images.*")):
        raise InputError(f"{source}: expected a posed-pairs folder (pairs.json) or a COLMAP model (images.bin or .txt)")
    return _of_model(source)


def _of_pairs(folder: Path) -> TruePoses:
    images = open_image_folder(folder)

    def name(path: Path) -> str:
        return path.relative_to(images.root).as_posix()

    pairs = [TruePair(name(each.image1), name(each.image2), each.R, each.t) for each in read_distinct_records(folder)]
    return TruePoses(pairs, absolute_poses(pairs) or {}, dict(images.K), {})


def absolute_poses(pairs: Sequence[TruePair]) -> dict[str, TruePose] | None:
    """The pose of each image in the frame of the first one; None where the pairs are not of one scene and one scale.

    Poses are handed on from image to image along the pairs. They hold if every pair agrees with them, the length of its
    translation included: in many data sets it is known, in others it was set to 1.
    """
    neighbours: dict[str, list[tuple[str, Tensor, Tensor]]] = {}
    for pair in pairs:
        neighbours.setdefault(pair.name1, []).append((pair.name2, pair.R, pair.t))
        neighbours.setdefault(pair.name2, []).append((pair.name1, pair.R.T, -pair.R.T @ pair.t))
    first = pairs[0].name1
    poses = {first: TruePose(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))}
    waiting = deque([first])
    while waiting:
        here = waiting.popleft()
        for other, R, t in neighbours[here]:
            if other not in poses:
                poses[other] = TruePose(R @ poses[here].R, R @ poses[here].t + t)
                waiting.append(other)
    if len(poses) < len(neighbours):
        return None
    for pair in pairs:
        _, t = relative_pose(poses[pair.name1], poses[pair.name2])
        if torch.linalg.vector_norm(t - pair.t) > SCALE_TOLERANCE * torch.linalg.vector_norm(pair.t):
            return None
    return poses


def relative_pose(one: TruePose, two: TruePose) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """R, t with ``X2 = R X1 + t``. From the centres' difference: two world translations would cancel digits."""
    return two.R @ one.R.T, two.R @ (one.centre - two.centre)


def _of_model(folder: Path) -> TruePoses:
    model = read_colmap_model(folder)
    poses = {image.name: TruePose(torch.from_numpy(image.R), torch.from_numpy(image.t)) for image in model.images}
    names = list(poses)
    pairs = []
    for number, name1 in enumerate(names):
        for name2 in names[number + 1 :]:
            R, t = relative_pose(poses[name1], poses[name2])
            if torch.linalg.vector_norm(t) > 0:  # without a translation there is no direction to compare with
                pairs.append(TruePair(name1, name2, R, t))
    cameras = {image.name: image.camera for image in model.images}
    pinholes = {name: torch.from_numpy(pinhole_intrinsics(each)) for name, each in cameras.items() if is_pinhole(each)}
    return TruePoses(pairs, poses, pinholes, cameras)


def without_distortion(camera: Any, xy_px: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """Our pixels of a ``pycolmap.Camera`` → where a pinhole camera of the same K would see the points, float64."""
    rays = torch.from_numpy(camera.cam_from_img(xy_px.double().cpu().numpy() + COLMAP_PIXEL_SHIFT))
    K = torch.from_numpy(pinhole_intrinsics(camera))
    return rays @ K[:2, :2].T + K[:2, 2]
