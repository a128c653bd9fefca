"""A COLMAP model as arrays: cameras, poses, points, and which image observes which point."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rfp.data.colmap_files import check_cameras_file, check_model_files
from rfp.optional import require
from rfp.records import InputError


@dataclass(frozen=True)
class ColmapImage:
    """One posed image of a model."""

    name: str
    """Relative to the folder of images, subfolders included."""
    camera: Any
    """A ``pycolmap.Camera``: its pixels are COLMAP's, half a pixel more than ours."""
    R: Float[np.ndarray, "3 3"]
    """``X_camera = R X_world + t``."""
    t: Float[np.ndarray, "3"]
    observed: Int[np.ndarray, "n"]
    """Places in the model's points, ascending, each once."""

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        return -self.R.T @ self.t


@dataclass(frozen=True)
class ColmapModel:
    """A reconstruction, its images in the order of their names."""

    images: tuple[ColmapImage, ...]
    points: Float[np.ndarray, "P 3"]
    point_id: Int[np.ndarray, "P"]
    """COLMAP's own numbers of the points, ascending."""


def read_colmap_model(folder: str | Path) -> ColmapModel:
    """The model in a folder: cameras, images and points3D as .bin or .txt, with or without rigs and frames.

    Read by pycolmap, so that every version of the format that it knows will do. Images without a pose are left out.

    Raises:
        InputError: no model there, one that pycolmap cannot read, a quaternion that is no rotation, no posed images.
    """
    folder = Path(folder)
    pycolmap = require("pycolmap", extra="colmap")
    check_model_files(folder)
    try:
        reconstruction = pycolmap.Reconstruction(str(folder))
    except (ValueError, IndexError, RuntimeError, MemoryError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}: pycolmap {pycolmap.__version__} cannot read this model ({reason}); "
            "is a file truncated or from another model? export the model again"
        ) from None
    check_cameras_file(folder, [len(camera.params) for camera in reconstruction.cameras.values()])
    point_id = np.array(sorted(reconstruction.points3D), dtype=np.int64)
    points = np.array([reconstruction.points3D[key].xyz for key in point_id.tolist()], dtype=np.float64).reshape(-1, 3)
    posed = [image for image in reconstruction.images.values() if image.has_pose]
    if not posed:
        raise InputError(f"{folder}: the model has no image with a pose; expected a reconstruction with two or more")
    images = [_image(image, reconstruction, point_id, folder) for image in sorted(posed, key=lambda image: image.name)]
    return ColmapModel(tuple(images), points, point_id)


def _image(image: Any, reconstruction: Any, point_id: Int[np.ndarray, "P"], folder: Path) -> ColmapImage:
    pose = image.cam_from_world()
    R, t = pose.rotation.matrix(), np.array(pose.translation)
    if not (np.isfinite(R).all() and np.isfinite(t).all()):
        raise InputError(f"{folder}: the pose of {image.name} holds NaN or infinity; export the model again")
    camera = reconstruction.cameras[image.camera_id]
    focal = [camera.params[place] for place in camera.focal_length_idxs()]  # a panorama has none
    if not camera.verify_params() or not np.isfinite(camera.params).all() or min(focal, default=1) <= 0:
        raise InputError(
            f"{folder}: camera {camera.camera_id} of {image.name} has unusable parameters "
            f"({camera.model_name} {camera.params_to_string()}); export the model again"
        )
    own = np.array([point.point3D_id for point in image.get_observation_points2D()], dtype=np.int64)
    return ColmapImage(image.name, camera, R, t, np.unique(np.searchsorted(point_id, own)))
