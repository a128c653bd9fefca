"""The data layout of the paper's own code, which is that of Yi et al. 2018: SUN3D and phototourism scenes.

Relied on, from the published files and the papers: a folder ``<scene>/<split>`` holds ``images.txt``,
``calibration.txt`` and ``visibility.txt``, the n-th lines of which name the image, the calibration and the visibility
file of image n, relative to the folder. A calibration (HDF5) holds ``K`` (3×3), whose principal point is an offset from
the image's centre ((w - 1)/2, (h - 1)/2), ``R`` (3×3) and ``T`` (3): ``X_camera = R X_world + T``, and ``imsize``
(w, h). A visibility file holds a number for each image: how many points it shares with this one (phototourism) or the
share of this one that it sees (SUN3D); -1 for itself.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rfp.data.pair_records import PairRecord
from rfp.data.record_pairs import PosedRecordPairs, evenly_spaced
from rfp.data.sets.cameras import Camera, check_baseline, check_camera, check_image, posed_record
from rfp.data.sets.text_files import parse_numbers, read_names, read_text
from rfp.optional import require
from rfp.records import InputError

LISTS = ("images.txt", "calibration.txt", "visibility.txt")

MIN_SHARE, MIN_POINTS = 0.5, 100.0
"""The paper's thresholds: pairs that see more than half of each other (SUN3D), or share more than 100 points."""


class ReinforcedFeaturePointsPairs(PosedRecordPairs):
    """The posed pairs of one folder in the layout of the paper's own code.

    Args:
        folder: ``<scene>/<split>``, with the three lists.
        min_visibility: pairs (i, j), i before j, for which the visibility file of i says more than this of j. By
            default 0.5 where no number is above 1, 100 otherwise.
        max_pairs: at most so many, evenly spaced.

    Raises:
        InputError: what is wrong with which line or key of which file; or h5py is not installed.

    Example:
        >>> ReinforcedFeaturePointsPairs("st_peters_square/train", max_pairs=10000)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        min_visibility: float | None = None,
        max_pairs: int | None = None,
        image_size: int | None = None,
        cache_mb: float = 1024.0,
    ) -> None:
        folder = Path(folder)
        lists = [read_names(folder / name) for name in LISTS]
        if len({len(names) for names in lists}) != 1:
            counts = ", ".join(f"{name} {len(names)}" for name, names in zip(LISTS, lists))
            raise InputError(f"{folder}: expected lists of equal length, got {counts}; is one incomplete?")
        images, calibrations, visibilities = lists
        pairs = _visible_pairs(folder, visibilities, min_visibility)
        self._sizes: dict[Path, tuple[int, int]] = {}
        cameras: dict[int, Camera] = {}

        def camera(index: int) -> Camera:
            if index not in cameras:
                cameras[index], size = _camera(folder, images[index], calibrations[index])
                self._sizes[cameras[index].image] = size
            return cameras[index]

        def located() -> Iterator[tuple[str, PairRecord]]:
            for first, second in evenly_spaced(pairs, max_pairs):
                two = camera(first), camera(second)
                record = posed_record(*two, _scene(folder))
                location = f"{folder}, images {first + 1} and {second + 1} of the lists"
                check_baseline(record, location, *two)
                yield location, record

        super().__init__(located(), image_size=image_size, cache_mb=cache_mb, source=folder)

    def _check(self, record: PairRecord) -> None:
        for path in (record.image1, record.image2):
            if self.stored_size(path) != self._sizes[path]:
                (width, height), (expected_width, expected_height) = self.stored_size(path), self._sizes[path]
                raise InputError(
                    f"{path}: expected {expected_width}×{expected_height} pixels (imsize of its calibration), got "
                    f"{width}×{height}; use the image that was calibrated"
                )
        super()._check(record)


def _visible_pairs(
    folder: Path, visibilities: list[tuple[str, str]], min_visibility: float | None
) -> list[tuple[int, int]]:
    visible = np.stack([_visibility(folder / name, len(visibilities)) for _, name in visibilities])
    if min_visibility is None:
        min_visibility = MIN_SHARE if visible.max() <= 1 else MIN_POINTS
    rows, columns = np.nonzero(np.triu(visible > min_visibility, k=1))
    if not len(rows):
        raise InputError(
            f"{folder}: no pair with a visibility above {min_visibility:g} (the largest is {visible.max():g}); "
            "lower min_visibility"
        )
    return list(zip(rows.tolist(), columns.tolist()))


def _visibility(path: Path, count: int) -> Float[np.ndarray, "n"]:
    words = read_text(path).split()
    if len(words) != count:
        raise InputError(f"{path}: expected {count} numbers, one for each image, got {len(words)}; is it complete?")
    try:
        numbers = np.array(words, dtype=np.float64)
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        for line, word in enumerate(words, start=1):
            parse_numbers([word], f"{path}, line {line}")
    return numbers


def _camera(folder: Path, image: tuple[str, str], calibration: tuple[str, str]) -> tuple[Camera, tuple[int, int]]:
    path, file = folder / image[1], folder / calibration[1]
    check_image(path, image[0], folder)
    if not file.is_file():
        raise InputError(f"{calibration[0]}: no such file: {file}; paths are relative to {folder}")
    values = _read_calibration(file)
    width, height = values["imsize"]
    if not (width >= 1 and height >= 1 and width == round(width) and height == round(height)):
        raise InputError(f"{file}: imsize: expected width and height in pixels, got {width:g} and {height:g}")
    centre = np.array([[0, 0, (width - 1) / 2], [0, 0, (height - 1) / 2], [0, 0, 0]])
    camera = Camera(path, values["K"].reshape(3, 3) + centre, values["R"].reshape(3, 3), values["T"])
    check_camera(camera, str(file))
    return camera, (int(width), int(height))


def _read_calibration(file: Path) -> dict[str, Float[np.ndarray, "n"]]:
    """K (9), R (9), T (3) and imsize (2), flat float64."""
    h5py: Any = require("h5py", extra="colmap")
    try:
        with h5py.File(file, "r") as data:
            return {
                key: _numbers(data, key, count, file) for key, count in (("K", 9), ("R", 9), ("T", 3), ("imsize", 2))
            }
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{file}: expected an HDF5 file, cannot read it ({reason}); is it complete?") from None


def _numbers(data: Any, key: str, count: int, file: Path) -> Float[np.ndarray, "n"]:
    if key not in data:
        raise InputError(f"{file}: missing {key}; expected K, R, T and imsize")
    try:
        values = np.asarray(data[key][()], dtype=np.float64).ravel()
    except (TypeError, ValueError):
        values = np.empty(0)
    if len(values) != count:
        raise InputError(f"{file}: {key}: expected {count} numbers, got {len(values)}; is it complete?")
    return values


def _scene(folder: Path) -> str:
    """The scene's own name: ``brown_bm_3`` of ``brown_bm_3---brown_bm_3-maxpairs-10000-random/test``."""
    folder = folder.resolve()
    name = folder.parent.name if folder.name in ("train", "val", "valid", "test") else folder.name
    return name.split("---")[0]
