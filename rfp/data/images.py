"""Images on disk → tensors: the one place where rfp decodes anything."""

from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor
from torch.nn.functional import pad

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
    differ by the rounding of the shorter side to whole pixels. ``None`` leaves the image as it is.

    The filter is that of ``kornia.geometry.transform.resize(antialias=True)``: a Gaussian of σ = (1/s - 1) / 2 where
    the image shrinks, then bilinear interpolation at pixel centres. It is evaluated only where the result has pixels,
    which agrees with kornia within 3e-5 and takes a twentieth of the time for 12 megapixels; and the result does not
    depend on the number of torch's threads, so that an image is the same in every process.
    """
    height, width = image.shape[-2:]
    if longer_side is None or longer_side == max(height, width):
        return image, (1.0, 1.0)
    if longer_side < 1:
        raise InputError(f"expected an image size of at least 1 pixel, got {longer_side}; try 640")
    scale = longer_side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    resized = _resize_rows(_resize_rows(image, new_height).transpose(1, 2), new_width).transpose(1, 2)
    return resized.clamp(0, 1).contiguous(), (new_width / width, new_height / height)


def _resize_rows(image: Float[Tensor, "3 h w"], new_height: int) -> Float[Tensor, "3 h2 w"]:
    """The image with its rows brought to another number; its columns stay."""
    blocks = _resizing_weights(image.shape[1], new_height)
    return torch.cat([weights @ image[:, start : start + weights.shape[1]] for start, weights in blocks], dim=1)


@lru_cache(maxsize=64)
def _resizing_weights(
    old: int, new: int, *, rows_of_a_block: int = 16
) -> tuple[tuple[int, Float[Tensor, "rows taps"]], ...]:
    """Smoothing and interpolation along one side as a matrix, some of its rows at a time.

    For each block of new rows: the first old row that they see, and their weights on it and on those that follow.
    """
    factor = old / new
    sigma, size = max((factor - 1) / 2, 1e-3), int(max(2 * (factor - 1), 3))  # kornia's: two σ to either side
    size = 1 if old == 1 else size + 1 - size % 2
    kernel = get_gaussian_kernel1d(size, sigma, dtype=torch.float64)[0]
    position = ((torch.arange(new, dtype=torch.float64) + 0.5) * factor - 0.5).clamp(0, old - 1)
    first = position.floor()
    share = (position - first)[:, None]
    weights = (1 - share) * pad(kernel, (0, 1)) + share * pad(kernel, (1, 0))
    seen = first.long()[:, None] - size // 2 + torch.arange(size + 1)
    seen = (old - 1) - ((old - 1) - seen.abs()).abs()  # mirrored at the borders, the outermost row not repeated
    seen = seen.clamp(0, old - 1)  # of weight 0, beside the last row of all
    blocks = []
    for block, block_weights in zip(seen.split(rows_of_a_block), weights.split(rows_of_a_block), strict=True):
        start, stop = int(block.min()), int(block.max()) + 1
        matrix = torch.zeros(len(block), stop - start, dtype=torch.float64)
        blocks.append((start, matrix.scatter_add_(1, block - start, block_weights).float()))
    return tuple(blocks)


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
