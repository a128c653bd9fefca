"""A COLMAP model and its images → a folder of posed pairs."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from rfp.data.colmap_model import ColmapImage, ColmapModel, read_colmap_model
from rfp.data.pair_selection import OverlapLimit, PairChoice, candidates_of_points, choose_pairs
from rfp.data.pair_writing import ImageFormat
from rfp.data.posed_images import ImageWriting, PosedImage, Progress, WrittenImage, write_posed_pairs
from rfp.data.source_images import find_sources
from rfp.data.undistortion import PinholeView, colmap_view
from rfp.records import InputError


@dataclass(frozen=True)
class ColmapPairs:
    """What was written."""

    num_pairs: int
    num_images: int
    num_candidates: int
    """Pairs of images that share a point."""
    num_missing: int
    """Posed images that were left out because they are not on the disk."""


def pairs_from_colmap(
    model_folder: str | Path,
    image_folder: str | Path,
    output: str | Path,
    *,
    choice: PairChoice | None = None,
    min_shared_points: int = 30,
    image_size: int | None = None,
    sparse_depth: bool = False,
    scene: str = "",
    allow_missing: bool = False,
    image_format: ImageFormat = "png",
    progress: Progress = iter,
) -> ColmapPairs:
    """Choose pairs of a COLMAP model, undistort and resize their images, and write ``output`` as posed pairs.

    The images are read as stored (EXIF orientation ignored, as COLMAP does), undistorted to pinhole cameras and
    written with 8 bits a channel; K follows, and COLMAP's half pixel is taken off. Poses are COLMAP's own:
    ``R = R2 R1ᵀ``, ``t = t2 - R t1`` of its cameras from world.

    Args:
        min_shared_points: 3-D points that both images of a pair observe.
        image_size: Longer side of the written images; None keeps the size of the undistorted ones.
        sparse_depth: Write ``sparse_depth/NAME.npz`` for each image, and its name as ``sparse_depth1`` and
            ``sparse_depth2`` of a record: ``xy_px`` (n, 2), where the points that the image observes project to in
            the written image, ``depth`` (n,) along its optical axis in the units of ``t``, ``point_id`` (n,).
        scene: Of every record; the name of ``output`` by default.
        allow_missing: Leave out posed images that are not on the disk instead of refusing them.
        progress: Wraps the images to be written, as ``tqdm.tqdm`` does.

    Raises:
        InputError: what is wrong with the model or which image, or why no pair qualifies.

    Example:
        >>> pairs_from_colmap("sparse/0", "photographs", "data/house", image_size=640)    # doctest: +SKIP
    """
    choice = PairChoice() if choice is None else choice
    writing = ImageWriting("the model", image_size, image_format, scene, "shared_points")
    if min_shared_points < 1:
        raise InputError(f"expected min_shared_points of at least 1, got {min_shared_points}; try 30")
    model = read_colmap_model(model_folder)
    names = [image.name for image in model.images]
    leave_out = "leave them out (--allow-missing)"
    sources = find_sources(names, Path(image_folder), allow_missing=allow_missing, leave_out=leave_out)
    images = [image for image in model.images if image.name in sources]
    R, centre = np.stack([image.R for image in images]), np.stack([image.centre for image in images])
    candidates = candidates_of_points(R, centre, model.points, [image.observed for image in images])
    fail = f"share fewer than {min_shared_points} points"
    limit = OverlapLimit(float(min_shared_points), fail, "--min-shared-points")
    chosen = candidates.take(choose_pairs(candidates, len(images), limit, choice))

    def write_depth(folder: Path, place: int, written: WrittenImage) -> str:
        return _write_depth(images[place], written, model, folder)

    num_images = write_posed_pairs(
        output,
        _posed_images(images, sources),
        chosen,
        writing,
        write_depth=write_depth if sparse_depth else None,
        progress=progress,
    )
    num_missing = len(model.images) - len(images)
    return ColmapPairs(len(chosen.first), num_images, len(candidates.first), num_missing)


def _posed_images(images: list[ColmapImage], sources: dict[str, Path]) -> list[PosedImage]:
    views: dict[int, PinholeView] = {}
    for image in images:
        if image.camera.camera_id not in views:
            views[image.camera.camera_id] = colmap_view(image.camera)
    return [
        PosedImage(image.name, sources[image.name], views[image.camera.camera_id], image.R, image.centre)
        for image in images
    ]


def _write_depth(image: ColmapImage, written: WrittenImage, model: ColmapModel, folder: Path) -> str:
    """The points that the image observes and that lie in front of it and inside the written image."""
    seen = model.points[image.observed] @ image.R.T + image.t
    depth = seen[:, 2]
    xy_px = (seen @ written.K.T)[:, :2] / np.where(depth > 0, depth, 1.0)[:, None]
    # Pixel centres are whole numbers, so the image ends half a pixel outside the outermost ones.
    inside = (depth > 0) & (xy_px >= -0.5).all(axis=1) & (xy_px < np.array(written.size) - 0.5).all(axis=1)
    # Outside images/, in which every file is an image.
    path = PurePosixPath("sparse_depth") / f"{PurePosixPath(written.path).relative_to('images')}.npz"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / path,
        xy_px=xy_px[inside].astype(np.float32),
        depth=depth[inside].astype(np.float32),
        point_id=model.point_id[image.observed][inside],
    )
    return str(path)
