"""A COLMAP model and its images → a folder of posed pairs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from rfp.data.colmap_model import ColmapImage, ColmapModel, read_colmap_model
from rfp.data.pair_selection import OverlapLimit, PairCandidates, PairChoice, candidates_of_points, choose_pairs
from rfp.data.pair_writing import ImageFormat, image_paths, new_folder, pair_record, write_image, write_pairs
from rfp.data.source_images import find_sources, read_source
from rfp.data.undistortion import colmap_view, to_pinhole
from rfp.records import InputError

Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class WrittenPairs:
    """What was written."""

    num_pairs: int
    num_images: int
    num_candidates: int
    """Pairs of images that see anything in common."""
    num_missing: int
    """Posed images that were left out because they are not on the disk."""


@dataclass(frozen=True)
class _WrittenImage:
    path: str
    K: Float[np.ndarray, "3 3"]
    size: tuple[int, int]


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
) -> WrittenPairs:
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
    if min_shared_points < 1:
        raise InputError(f"expected min_shared_points of at least 1, got {min_shared_points}; try 30")
    if image_size is not None and image_size < 1:
        raise InputError(f"expected an image size of at least 1 pixel, got {image_size}; try 640")
    model = read_colmap_model(model_folder)
    sources = find_sources([image.name for image in model.images], Path(image_folder), allow_missing=allow_missing)
    images = [image for image in model.images if image.name in sources]
    R, centre = np.stack([image.R for image in images]), np.stack([image.centre for image in images])
    candidates = candidates_of_points(R, centre, model.points, [image.observed for image in images])
    limit = OverlapLimit(
        float(min_shared_points), f"share fewer than {min_shared_points} points", "--min-shared-points"
    )
    chosen = candidates.take(choose_pairs(candidates, len(images), limit, choice))
    used = np.union1d(chosen.first, chosen.second).tolist()
    paths = image_paths([images[place].name for place in used], image_format=image_format)
    with new_folder(output) as folder:
        written = {}
        for place in progress(used):
            name = images[place].name
            written[place] = _write_image(images[place], sources[name], folder, paths[name], image_size)
            if sparse_depth:
                _write_depth(images[place], written[place], model, folder)
        scene = scene or Path(output).absolute().name
        write_pairs(folder, _records(images, written, chosen, scene, sparse_depth))
    return WrittenPairs(len(chosen.first), len(used), len(candidates.first), len(model.images) - len(images))


def _write_image(image: ColmapImage, source: Path, folder: Path, path: str, image_size: int | None) -> _WrittenImage:
    view = colmap_view(image.camera)
    pinhole, K = to_pinhole(read_source(source, view.source_size, "the model"), view, image_size)
    write_image(pinhole, folder / path)
    return _WrittenImage(path, K, (pinhole.shape[-1], pinhole.shape[-2]))


def _records(
    images: Sequence[ColmapImage],
    written: dict[int, _WrittenImage],
    pairs: PairCandidates,
    scene: str,
    sparse_depth: bool,
) -> list[dict[str, Any]]:
    records = []
    for place, (first, second) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist())):
        one, two = written[first], written[second]
        figures = {
            "rotation_deg": round(float(pairs.rotation_deg[place]), 3),
            "parallax_deg": round(float(pairs.parallax_deg[place]), 3),
            "shared_points": int(pairs.overlap[place]),
        }
        if sparse_depth:
            figures |= {"sparse_depth1": _depth_path(one.path), "sparse_depth2": _depth_path(two.path)}
        R = images[second].R @ images[first].R.T
        # From the centres' difference: two translations far from the origin would cancel digits.
        t = images[second].R @ (images[first].centre - images[second].centre)
        records.append(pair_record((one.path, two.path), (one.K, two.K), R, t, scene=scene, **figures))
    return records


def _depth_path(image_path: str) -> str:
    """Outside images/, in which every file is an image."""
    inside = PurePosixPath(image_path).relative_to("images")
    return str(PurePosixPath("sparse_depth") / f"{inside}.npz")


def _write_depth(image: ColmapImage, written: _WrittenImage, model: ColmapModel, folder: Path) -> None:
    """The points that the image observes and that lie in front of it and inside the written image."""
    seen = model.points[image.observed] @ image.R.T + image.t
    depth = seen[:, 2]
    xy_px = (seen @ written.K.T)[:, :2] / np.where(depth > 0, depth, 1.0)[:, None]
    # Pixel centres are whole numbers, so the image ends half a pixel outside the outermost ones.
    inside = (depth > 0) & (xy_px >= -0.5).all(axis=1) & (xy_px < np.array(written.size) - 0.5).all(axis=1)
    path = folder / _depth_path(written.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        xy_px=xy_px[inside].astype(np.float32),
        depth=depth[inside].astype(np.float32),
        point_id=model.point_id[image.observed][inside],
    )
