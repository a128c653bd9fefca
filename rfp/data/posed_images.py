"""Chosen pairs of posed images → a folder of posed pairs: the half that models and trajectories have in common."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rfp.data.pair_selection import PairCandidates
from rfp.data.pair_writing import ImageFormat, image_paths, new_folder, pair_record, write_image, write_pairs
from rfp.data.source_images import read_source
from rfp.data.undistortion import PinholeView, to_pinhole
from rfp.records import InputError

Progress = Callable[[Sequence[Any]], Iterable[Any]]
"""Wraps a sequence of things to be done, as ``tqdm.tqdm`` does."""


@dataclass(frozen=True)
class PosedImage:
    """An image on the disk, and the camera that took it."""

    name: str
    """Relative to the folder of images; what is written keeps it, but for the suffix."""
    source: Path
    view: PinholeView
    R: Float[np.ndarray, "3 3"]
    """``X_camera = R (X_world - centre)``."""
    centre: Float[np.ndarray, "3"]


@dataclass(frozen=True)
class WrittenImage:
    """What became of a posed image."""

    path: str
    """Relative to the folder of pairs."""
    K: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    """(width, height)."""


@dataclass(frozen=True)
class ImageWriting:
    """How images are written, and what records say beside K, R and t."""

    owner: str
    """Where the intrinsics come from, as a message about another size puts it."""
    image_size: int | None = None
    """Longer side; None keeps the size of the undistorted image."""
    image_format: ImageFormat = "png"
    scene: str = ""
    """The name of the folder by default."""
    overlap_key: str = "overlap"
    """The key of the overlap in records."""

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"expected an image size of at least 1 pixel, got {self.image_size}; try 640")


def write_posed_pairs(
    output: str | Path,
    images: Sequence[PosedImage],
    pairs: PairCandidates,
    writing: ImageWriting,
    *,
    write_depth: Callable[[Path, int, WrittenImage], str] | None = None,
    progress: Progress = iter,
) -> int:
    """Undistort, resize and write the images of the pairs, then ``pairs.json``; how many images were written.

    Args:
        pairs: ``first`` and ``second`` are places in ``images``.
        write_depth: Called with the folder, the place of an image and what became of it; the relative path that comes
            back is ``sparse_depth1`` or ``sparse_depth2`` of the records.

    Raises:
        InputError: an image that cannot be used, or no place to write to; nothing stays behind.
    """
    used = np.union1d(pairs.first, pairs.second).tolist()
    paths = image_paths([images[place].name for place in used], image_format=writing.image_format)
    written: dict[int, WrittenImage] = {}
    depth: dict[int, str] = {}
    with new_folder(output) as folder:
        for place in progress(used):
            path = paths[images[place].name]
            written[place] = _write(images[place], folder, path, writing)
            if write_depth is not None:
                depth[place] = write_depth(folder, place, written[place])
        scene = writing.scene or Path(output).absolute().name
        records = []
        for number, (first, second) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist())):
            figures = _figures(pairs, number, writing)
            if depth:
                figures |= {"sparse_depth1": depth[first], "sparse_depth2": depth[second]}
            R = images[second].R @ images[first].R.T
            # From the centres' difference: two translations far from the origin would cancel digits.
            t = images[second].R @ (images[first].centre - images[second].centre)
            one, two = written[first], written[second]
            records.append(pair_record((one.path, two.path), (one.K, two.K), R, t, scene=scene, **figures))
        write_pairs(folder, records)
    return len(used)


def _write(image: PosedImage, folder: Path, path: str, writing: ImageWriting) -> WrittenImage:
    stored = read_source(image.source, image.view.source_size, writing.owner)
    pinhole, K = to_pinhole(stored, image.view, writing.image_size)
    write_image(pinhole, folder / path)
    return WrittenImage(path, K, (pinhole.shape[-1], pinhole.shape[-2]))


def _figures(pairs: PairCandidates, number: int, writing: ImageWriting) -> dict[str, float]:
    overlap = float(pairs.overlap[number])
    return {
        "rotation_deg": round(float(pairs.rotation_deg[number]), 3),
        "parallax_deg": round(float(pairs.parallax_deg[number]), 3),
        writing.overlap_key: int(overlap) if overlap.is_integer() else round(overlap, 3),
    }
