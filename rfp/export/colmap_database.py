"""A COLMAP database of our features and matches, from which ``pycolmap.incremental_mapping`` maps directly.

COLMAP's pixels have their origin in the corner of the top-left pixel, ours in its centre: key points and principal
points are written half a pixel further right and down, here and nowhere else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from rfp.data.undistortion import COLMAP_PIXEL_SHIFT
from rfp.export.colmap_logging import quiet_colmap
from rfp.export.complete_files import check_may_write, complete_files
from rfp.optional import require
from rfp.records import InputError


@dataclass(frozen=True)
class ImageFeatures:
    """The key points of one image, and what is known about its camera."""

    name: str
    """Its path below the folder of images, with forward slashes, as COLMAP names it."""
    size: tuple[int, int]
    """(width, height) of the image as stored."""
    xy_px: Float[Tensor, "K 2"]
    """Pixels of the image as stored, pixel (0, 0) being the centre of the top-left pixel."""
    K: Float[Tensor, "3 3"] | None = None
    """Images with equal intrinsics and size share one camera. None: what EXIF says of ``path``, or else a guess that
    mapping refines (f = 1.2 times the longer side), one camera for each image, as COLMAP does itself."""
    path: Path | None = None
    """The image file; read only where the intrinsics are unknown."""
    camera: str = ""
    """Images of one size and one name of a camera share it, where the intrinsics are unknown."""


@dataclass(frozen=True)
class PairMatches:
    """Matches between the key points of two images."""

    name1: str
    name2: str
    index: Int[Tensor, "M 2"]
    """Rows (key point of the first image, key point of the second)."""


@dataclass(frozen=True)
class DatabaseCounts:
    """What a database holds: images and their cameras, matched pairs, and those that verification left."""

    num_images: int
    num_cameras: int
    num_keypoints: int
    num_pairs: int
    num_matches: int
    num_verified_pairs: int
    num_inliers: int


def write_database(
    path: str | Path,
    images: Iterable[ImageFeatures],
    pairs: Iterable[PairMatches],
    *,
    verify: bool = True,
    max_error_px: float = 4.0,
    min_inliers: int = 15,
    overwrite: bool = False,
) -> DatabaseCounts:
    """What was written: a database with cameras, images, key points, matches and two-view geometries.

    Both iterables are read once, images before pairs, and nothing of them is kept but names and counts: with lazy ones
    a large collection streams through. The file appears under its name when it is complete.

    Args:
        verify: Keep the matches that pycolmap's own two-view geometries (E, F or H by LO-RANSAC, seed 0) agree with.
            False believes all of them: for matches that were verified elsewhere.
        max_error_px: Of the verification, in pixels of the stored images; 4 is COLMAP's own.
        min_inliers: Pairs with fewer are left out of the mapping.

    Raises:
        InputError: the file exists and may not be overwritten; two images of one name; pairs that name an unknown
            image, one image twice, two images that were matched before, or key points that are not there.

    Example:
        >>> counts = write_database("database.db", images, pairs)  # doctest: +SKIP
        >>> pycolmap.incremental_mapping("database.db", "images", "model")  # doctest: +SKIP
    """
    pycolmap = require("pycolmap", extra="colmap")
    path = Path(path)
    check_may_write(path, overwrite=overwrite)
    with complete_files([path]) as (temporary,):
        with pycolmap.Database.open(temporary) as database:
            written = _write_images(pycolmap, database, images)
            _write_pairs(pycolmap, database, pairs, written, believed=not verify)
        if verify:
            _verify(pycolmap, temporary, max_error_px, min_inliers)
        with pycolmap.Database.open(temporary) as database:
            return _counts(database)


@dataclass(frozen=True)
class _WrittenImage:
    image_id: int
    num_keypoints: int
    has_focal_length: bool


def _write_images(pycolmap: Any, database: Any, images: Iterable[ImageFeatures]) -> dict[str, _WrittenImage]:
    written: dict[str, _WrittenImage] = {}
    shared: dict[tuple, int] = {}
    """The camera of a size, and of intrinsics, a camera's name or an image's."""
    for image in images:
        if image.name in written:
            raise InputError(f"{image.name}: two images of this name; a database needs distinct ones, rename one")
        camera = camera_of(image)
        # Rounded: intrinsics that went through a file and back differ in their last digits.
        parameters = tuple(camera.params.round(6).tolist()) if image.K is not None else image.camera
        key = (image.size, parameters or image.name)
        if key not in shared:
            shared[key] = _write_camera(pycolmap, database, camera)
        camera_id = shared[key]
        image_id = database.write_image(pycolmap.Image(name=image.name, camera_id=camera_id))
        _write_frame(pycolmap, database, camera_id, image_id)
        xy_px = image.xy_px.detach().cpu().numpy().astype(np.float64) + COLMAP_PIXEL_SHIFT
        database.write_keypoints(image_id, xy_px.astype(np.float32))
        written[image.name] = _WrittenImage(image_id, len(xy_px), camera.has_prior_focal_length)
    return written


def camera_of(image: ImageFeatures) -> Any:
    """The ``pycolmap.Camera`` of an image: PINHOLE from its K, else EXIF's or a guess (SIMPLE_RADIAL) of COLMAP's.

    Raises:
        InputError: intrinsics with skew, which no camera model of COLMAP has, or an image that cannot be read.
    """
    pycolmap = require("pycolmap", extra="colmap")
    width, height = image.size
    if image.K is not None:
        (fx, skew, cx), (_, fy, cy), _ = image.K.double().cpu().tolist()
        if abs(skew) > 1e-6 * fx:
            raise InputError(
                f"{image.name}: K has a skew of {skew:g}, which COLMAP's cameras have not; undistort first"
            )
        params = [fx, fy, cx + COLMAP_PIXEL_SHIFT, cy + COLMAP_PIXEL_SHIFT]
        camera = pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params)
        camera.has_prior_focal_length = True
        return camera
    if image.path is None:
        return pycolmap.Camera.create_from_model_name(0, "SIMPLE_RADIAL", 1.2 * max(width, height), width, height)
    try:
        camera = pycolmap.infer_camera_from_image(image.path)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{image.path}: pycolmap cannot read it ({error}); convert it to JPEG or PNG") from None
    if (camera.width, camera.height) != image.size:
        raise InputError(
            f"{image.path}: is {camera.width}×{camera.height} pixels for pycolmap, its key points are of an image of "
            f"{width}×{height}; detect them in the image as stored"
        )
    return camera


def _write_camera(pycolmap: Any, database: Any, camera: Any) -> int:
    """The number of the camera, and the rig of it alone that COLMAP (since version 3.12) has for each."""
    camera_id = database.write_camera(camera)
    rig = pycolmap.Rig(rig_id=camera_id)
    rig.add_ref_sensor(_sensor(pycolmap, camera_id))
    database.write_rig(rig, use_rig_id=True)
    return camera_id


def _write_frame(pycolmap: Any, database: Any, camera_id: int, image_id: int) -> None:
    """One moment of that rig: this image."""
    frame = pycolmap.Frame(frame_id=image_id, rig_id=camera_id)
    frame.add_data_id(pycolmap.data_t(_sensor(pycolmap, camera_id), image_id))
    database.write_frame(frame, use_frame_id=True)


def _sensor(pycolmap: Any, camera_id: int) -> Any:
    return pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera_id)


def _write_pairs(
    pycolmap: Any, database: Any, pairs: Iterable[PairMatches], written: dict[str, _WrittenImage], *, believed: bool
) -> None:
    for pair in pairs:
        for name in (pair.name1, pair.name2):
            if name not in written:
                raise InputError(f"pair {pair.name1} {pair.name2}: there is no image {name}; write its features too")
        image1, image2 = written[pair.name1], written[pair.name2]
        index = pair.index.detach().cpu().numpy()
        _check_pair(database, pair, image1, image2, index)
        index = index.astype(np.uint32)
        database.write_matches(image1.image_id, image2.image_id, index)
        if believed:
            kind = pycolmap.TwoViewGeometryConfiguration
            calibrated = image1.has_focal_length and image2.has_focal_length
            geometry = pycolmap.TwoViewGeometry(
                config=kind.CALIBRATED if calibrated else kind.UNCALIBRATED, inlier_matches=index
            )
            database.write_two_view_geometry(image1.image_id, image2.image_id, geometry)


def _check_pair(
    database: Any, pair: PairMatches, image1: _WrittenImage, image2: _WrittenImage, index: np.ndarray
) -> None:
    """Raises InputError for a pair that COLMAP would refuse, or read past the key points of."""
    names = f"pair {pair.name1} {pair.name2}"
    if image1.image_id == image2.image_id:
        raise InputError(f"{names}: an image cannot be matched with itself; remove the pair")
    if database.exists_matches(image1.image_id, image2.image_id):
        raise InputError(f"{names}: these two images were matched before; list each pair once, in one order")
    counts = (image1.num_keypoints, image2.num_keypoints)
    if len(index) and (index.min() < 0 or (index.max(0) >= counts).any()):
        raise InputError(f"{names}: expected indices of {counts[0]} and {counts[1]} key points, got {index.max(0)}")


def _verify(pycolmap: Any, path: Path, max_error_px: float, min_inliers: int) -> None:
    options = pycolmap.TwoViewGeometryOptions(min_num_inliers=min_inliers)
    options.ransac.max_error = max_error_px
    options.ransac.random_seed = 0
    with quiet_colmap(pycolmap, least="WARNING"):
        pycolmap.geometric_verification(path, two_view_geometry_options=options)


def _counts(database: Any) -> DatabaseCounts:
    return DatabaseCounts(
        num_images=database.num_images(),
        num_cameras=database.num_cameras(),
        num_keypoints=database.num_keypoints(),
        num_pairs=database.num_matched_image_pairs(),
        num_matches=database.num_matches(),
        num_verified_pairs=database.num_verified_image_pairs(),
        num_inliers=database.num_inlier_matches(),
    )
