"""Cameras as data sets give them, their faults, and the records of pairs that they make."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rfp.data.camera_problems import Matrix, Vector, finite_problem, intrinsics_problem, rotation_problem
from rfp.data.pair_records import PairRecord
from rfp.records import InputError


@dataclass(frozen=True)
class Camera:
    """An image and its camera in the frame of its scene, in float64: ``X_camera = R @ X_world + t``."""

    image: Path
    K: Matrix
    """Pixels of the stored image, pixel (0, 0) being the centre of the top-left pixel."""
    R: Matrix
    t: Vector


def posed_record(camera1: Camera, camera2: Camera, scene: str) -> PairRecord:
    """The record of two cameras of one scene: ``R = R2 R1ᵀ``, ``t = t2 - R t1``, so that ``X2 = R @ X1 + t``."""
    R = camera2.R @ camera1.R.T
    return pair_record(camera1.image, camera2.image, camera1.K, camera2.K, R, camera2.t - R @ camera1.t, scene)


def pair_record(image1: Path, image2: Path, K1: Matrix, K2: Matrix, R: Matrix, t: Vector, scene: str) -> PairRecord:
    """A record of float64 tensors with the name that messages use."""
    K1_tensor, K2_tensor, R_tensor, t_tensor = (
        torch.from_numpy(np.asarray(value, np.float64)) for value in (K1, K2, R, t)
    )
    name = f"{scene}: {image1.name} {image2.name}"
    return PairRecord(image1, image2, K1_tensor, K2_tensor, R_tensor, t_tensor, scene=scene, name=name)


def check_camera(camera: Camera, location: str) -> None:
    """Raise InputError with the first fault of a camera, after the place of the file that it stands at."""
    for problem in (intrinsics_problem(camera.K), rotation_problem(camera.R), finite_problem("t", camera.t)):
        if problem:
            raise InputError(f"{location}: {problem}")


def check_baseline(record: PairRecord, location: str, *cameras: Camera) -> None:
    """Raise InputError where both cameras stand at one place: the direction of t means nothing then.

    Where t was computed from two ``cameras``, their own t say what rounding leaves of nothing.
    """
    if not float(record.t.norm()) > 1e-12 * sum(float(np.linalg.norm(camera.t)) for camera in cameras):
        raise InputError(f"{location}: t is zero, so the pair has no direction of translation; remove the pair")


def check_image(path: Path, location: str, folder: Path) -> None:
    """Raise InputError where an image that a file names does not exist."""
    if not path.is_file():
        raise InputError(f"{location}: no such image: {path}; image paths are relative to {folder}")
