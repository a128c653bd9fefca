"""Images of lenses → images of pinhole cameras, and their resizing: K, always of our pixels, stays in step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rfp.data.images import resize_image
from rfp.geometry.camera import scale_intrinsics
from rfp.optional import require
from rfp.records import InputError

COLMAP_PIXEL_SHIFT = 0.5
"""COLMAP's pixel (0, 0) is the corner of the top-left pixel, ours is its centre."""

MAP_PIXELS = 2**20
"""Pixels whose rays are bent at once: 10 000 × 7 500 of them would fill gigabytes in float64."""

BendRays = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PinholeView:
    """The pinhole camera that stands in for a camera with a lens, and where its pixels come from."""

    source_size: tuple[int, int]
    """(width, height) of the stored image."""
    size: tuple[int, int]
    """(width, height) of the pinhole image at the same focal length."""
    K: Float[np.ndarray, "3 3"]
    """Of the pinhole image, pixel (0, 0) being the centre of the top-left pixel."""
    bend: BendRays | None
    """(N, 2) normalised points of the pinhole camera to (N, 2) pixels of the stored image; None where the stored
    image is a pinhole's already."""


def colmap_view(camera: Any) -> PinholeView:
    """The pinhole view of a ``pycolmap.Camera``; size and K as pycolmap's own undistortion chooses them (no blanks).

    Raises:
        InputError: a panorama, which no pinhole camera sees.
    """
    pycolmap = require("pycolmap", extra="colmap")
    source_size = (camera.width, camera.height)
    if is_pinhole(camera):
        return PinholeView(source_size, source_size, pinhole_intrinsics(camera), None)
    try:
        pinhole = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"camera {camera.camera_id} ({camera.model_name}) cannot be undistorted to a pinhole camera ({reason}); "
            "leave its images out, or make the model with perspective cameras"
        ) from None

    def bend(xy: np.ndarray) -> np.ndarray:
        rays = np.concatenate([xy, np.ones_like(xy[:, :1])], axis=1)
        return camera.img_from_cam(rays) - COLMAP_PIXEL_SHIFT

    return PinholeView(source_size, (pinhole.width, pinhole.height), pinhole_intrinsics(pinhole), bend)


def is_pinhole(camera: Any) -> bool:
    """Whether the images of a ``pycolmap.Camera`` are a pinhole's as they are stored.

    Fisheye cameras without further terms count as undistorted to pycolmap, and as nothing like a pinhole here.
    """
    if camera.model_name in ("SIMPLE_PINHOLE", "PINHOLE"):
        return True
    perspective = camera.model_name in ("SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
    return perspective and bool(camera.is_undistorted())


def pinhole_intrinsics(camera: Any) -> Float[np.ndarray, "3 3"]:
    """K of a ``pycolmap.Camera`` in our pixels, without its distortion."""
    K = np.array(camera.calibration_matrix(), dtype=np.float64)
    K[:2, 2] -= COLMAP_PIXEL_SHIFT
    return K


def check_distortion(distortion: Sequence[float]) -> None:
    """Refuse what are not OpenCV's coefficients (k1, k2, p1, p2, k3), in normalised coordinates.

    Raises:
        InputError: neither 4 nor 5 finite numbers.
    """
    if len(distortion) not in (4, 5) or not all(math.isfinite(value) for value in distortion):
        raise InputError(f"expected 4 or 5 finite distortion coefficients (k1 k2 p1 p2 k3), got {tuple(distortion)}")


def opencv_view(
    K: Float[np.ndarray, "3 3"], distortion: tuple[float, ...], source_size: tuple[int, int]
) -> PinholeView:
    """The pinhole view of a camera with OpenCV's distortion coefficients (k1 k2 p1 p2 [k3 …]); none for a pinhole.

    The size stays, K changes so that no pixel is blank: the edges of black borders would attract key points.
    """
    import cv2

    if not any(distortion):
        return PinholeView(source_size, source_size, K, None)
    coefficients = np.array(distortion, dtype=np.float64)
    inside, _ = cv2.getOptimalNewCameraMatrix(K, coefficients, source_size, 0.0)

    def bend(xy: np.ndarray) -> np.ndarray:
        rays = np.concatenate([xy, np.ones_like(xy[:, :1])], axis=1)
        return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, coefficients)[0][:, 0]

    return PinholeView(source_size, source_size, np.asarray(inside, dtype=np.float64), bend)


def to_pinhole(
    image: Float[Tensor, "3 h w"], view: PinholeView, longer_side: int | None
) -> tuple[Float[Tensor, "3 h2 w2"], Float[np.ndarray, "3 3"]]:
    """The stored image as the pinhole camera sees it, its longer side resized (None: not at all), and K of that.

    The image has ``view.source_size``. What lies outside the stored image repeats its border.

    Raises:
        InputError: ``longer_side`` is no size.
    """
    height, width = image.shape[-2:]
    if view.bend is None:
        resized, scales = resize_image(image, longer_side)
        return resized, _scaled(view.K, scales)
    size, source_scales = view.size, (1.0, 1.0)
    if longer_side is not None:
        factor = longer_side / max(size)
        size = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        if factor < 1:  # smoothing belongs before the sampling; enlarging is left to it
            image, source_scales = resize_image(image, max(1, round(factor * max(width, height))))
    K = _scaled(view.K, (size[0] / view.size[0], size[1] / view.size[1]))
    return _sample(image, K, size, view.bend, source_scales), K


def _sample(
    image: Float[Tensor, "3 h w"],
    K: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    bend: BendRays,
    source_scales: tuple[float, float],
) -> Float[Tensor, "3 h2 w2"]:
    """Bicubic: of the interpolations at hand the one that blurs least. In rows that fit ``MAP_PIXELS``."""
    height, width = image.shape[-2:]
    columns, rows = size
    result = image.new_empty(3, rows, columns)
    x = (np.arange(columns) - K[0, 2]) / K[0, 0]
    at_once = max(1, MAP_PIXELS // columns)
    for top in range(0, rows, at_once):
        y = (np.arange(top, min(top + at_once, rows)) - K[1, 2]) / K[1, 1]
        xy = np.stack(np.broadcast_arrays(x[None], y[:, None]), axis=-1)
        source = bend(xy.reshape(-1, 2))
        # grid_sample without aligned corners: -1 and 1 are the outer edges of the outermost pixels
        grid = 2 * (source + 0.5) * np.array(source_scales) / (width, height) - 1
        grid = torch.from_numpy(np.nan_to_num(grid, nan=2.0).astype(np.float32)).reshape(1, len(y), columns, 2)
        result[:, top : top + len(y)] = torch.nn.functional.grid_sample(
            image[None], grid, mode="bicubic", padding_mode="border", align_corners=False
        )[0]
    return result.clamp_(0, 1)


def _scaled(K: Float[np.ndarray, "3 3"], scales: tuple[float, float]) -> Float[np.ndarray, "3 3"]:
    return scale_intrinsics(torch.from_numpy(K), *scales).numpy()
