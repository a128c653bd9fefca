"""A folder of photographs as one tensor of square crops: sources of homography pairs and textures of scenes."""

from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from rfp.data.images import read_image, resize_image
from rfp.records import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


def load_photographs(
    folder: str | Path,
    *,
    size: int,
    crops: int = 1,
    largest_scale: float = 1.0,
    limit: int | None = None,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator,
) -> Shaped[Tensor, "n 3 size size"]:
    """Square crops of every photograph below a folder, RGB in [0, 1], on the CPU; ``crops`` of each, in order.

    A crop shows ``size`` pixels of the photograph scaled so that its shorter side is U(1, ``largest_scale``) · ``size``
    long, but never enlarged beyond its own resolution unless it is smaller than ``size``.

    Args:
        size: Side of the crops in pixels.
        largest_scale: 1 shows the whole shorter side; more shows details of large photographs, too.
        limit: Photographs read at most, evenly spaced in the order of their paths; all by default.
        dtype: torch.uint8 gives 0 to 255 instead, in a quarter of the memory.
        generator: Draws scales and places, on the CPU.

    Raises:
        InputError: no such folder, no image in it, or one that cannot be read; no crops of any size.
    """
    if size < 1 or crops < 1 or largest_scale < 1 or (limit is not None and limit < 1):
        raise InputError(
            "expected size, crops, largest_scale and limit of at least 1, got "
            f"{size}, {crops}, {largest_scale:g} and {limit}"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a folder of photographs, found none; give a folder with .jpg or .png files"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: expected photographs ({', '.join(IMAGE_SUFFIXES)}), found none")
    if limit is not None and len(paths) > limit:
        paths = [paths[len(paths) * k // limit] for k in range(limit)]
    found = (crop for path in paths for crop in _crops(path, size, crops, largest_scale, generator))
    if dtype == torch.uint8:
        return torch.stack([(crop * 255).round().to(dtype) for crop in found])
    return torch.stack([crop.to(dtype) for crop in found])


def _crops(path: Path, size: int, crops: int, largest_scale: float, generator: torch.Generator) -> list[Tensor]:
    image = read_image(path)
    height, width = image.shape[-2:]
    short = min(height, width)
    found = []
    for scale, at_y, at_x in torch.rand(crops, 3, generator=generator).tolist():
        side = max(size, min(short, round(size * (1 + scale * (largest_scale - 1)))))
        resized, _ = resize_image(image, longer_side=-(-side * max(height, width) // short))
        rows, columns = resized.shape[-2:]
        top, left = round(at_y * max(rows - size, 0)), round(at_x * max(columns - size, 0))
        found.append(resized[:, top : top + size, left : left + size])
    return found
