"""Images on disk → tensors: the one place where rfp decodes anything."""

from pathlib import Path

import torch
from jaxtyping import Float
from kornia.geometry.transform import resize
from torch import Tensor

from rfp.records import InputError


def read_image(path: str | Path, *, upright: bool = False) -> Float[Tensor, "3 h w"]:
    """The image as float32 RGB in [0, 1], as it is stored.

    Grey images are repeated to three channels, an alpha channel is dropped, 16-bit images are divided by 65535, and
    float images (TIFF, EXR) have to lie in [0, 1] already.

    Args:
        upright: turn the image as its EXIF orientation says. Off by default: intrinsics and poses belong to the
            pixels *as stored* (COLMAP works on those), and turning an image turns its camera.

    Raises:
        InputError: the file is missing, empty, truncated or not an image that OpenCV reads.
    """
    import cv2
    import numpy as np

    data = _read_bytes(Path(path))
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InputError(f"{path}: not an image that OpenCV can read; replace the file (JPEG, PNG, TIFF, WebP, …)")
    scale = {"uint8": 1 / 255, "uint16": 1 / 65535, "float32": 1.0}.get(pixels.dtype.name)
    if scale is None:
        raise InputError(f"{path}: expected 8-bit, 16-bit or float32 pixels, got {pixels.dtype}; convert the image")
    rgb = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1), dtype=np.float32) * np.float32(scale)
    if scale == 1.0 and not (rgb.min() >= 0 and rgb.max() <= 1):  # also true for NaN
        raise InputError(f"{path}: expected float pixels in [0, 1], got NaN or values outside; rescale the image")
    return torch.from_numpy(rgb)


def resize_image(
    image: Float[Tensor, "3 h w"], longer_side: int | None
) -> tuple[Float[Tensor, "3 h2 w2"], tuple[float, float]]:
    """The image with its longer side resized to ``longer_side`` (down or up), and the scales (x, y) for its intrinsics.

    Intrinsics follow by :func:`rfp.geometry.camera.scale_intrinsics`: f ← f s, c ← (c + 0.5) s - 0.5. The two scales
    differ by the rounding of the shorter side to whole pixels. Downscaling smooths first (kornia's antialiasing).
    ``None`` leaves the image as it is.
    """
    height, width = image.shape[-2:]
    if longer_side is None or longer_side == max(height, width):
        return image, (1.0, 1.0)
    if longer_side < 1:
        raise InputError(f"expected an image size of at least 1 pixel, got {longer_side}; try 640")
    scale = longer_side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    resized = resize(image, (new_height, new_width), interpolation="bilinear", antialias=True)
    return resized.clamp(0, 1), (new_width / width, new_height / height)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if not data:
        raise InputError(f"{path}: the image file is empty; copy it again")
    # OpenCV 4 fills the missing part of a truncated JPEG with grey and says nothing.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[_start_of_jpeg_scan(data) :]:
        raise InputError(f"{path}: the JPEG is truncated (no end-of-image marker); copy it again")
    if data[:4] == b"\x89PNG" and b"IEND" not in data[-1024:]:
        raise InputError(f"{path}: the PNG is truncated (no IEND chunk); copy it again")
    return data


def _start_of_jpeg_scan(data: bytes) -> int:
    """Where the compressed data begin: behind the segments, whose EXIF thumbnail has an end marker of its own."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        is_fill_byte = data[position + 1] == 0xFF
        position += 1 if is_fill_byte else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position
