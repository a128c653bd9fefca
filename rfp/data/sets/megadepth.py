"""MegaDepth by its scene files (``.npz``) as D2-Net's preprocessing writes them and LoFTR ships them: MegaDepth-1500.

Relied on, from those two projects' documentation and the script that writes the files: ``image_paths`` relative to
MegaDepth's folder; ``intrinsics`` (3×3) and ``poses`` (4×4 world to camera) of each image, ``None`` where it is
missing; then either ``pair_infos``, a list of ``((i, j), overlap, …)``, or ``overlap_matrix`` (n×n), the share of
common points. LoFTR's are pickled dicts named ``.npz``. The intrinsics are COLMAP's: the centre of the top-left pixel
is (0.5, 0.5) there.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rfp.data.pair_records import PairRecord
from rfp.data.record_pairs import PosedRecordPairs, evenly_spaced
from rfp.data.sets.cameras import Camera, check_baseline, check_camera, check_image, posed_record
from rfp.data.sets.plain_arrays import read_arrays
from rfp.data.sets.text_files import read_names
from rfp.records import InputError

MATRIX_OVERLAP = (0.1, 0.7)
"""Overlaps taken from an ``overlap_matrix`` by default: those of LoFTR's training lists."""

_KEYS = ("image_paths", "intrinsics", "poses", "pair_infos", "overlap_matrix")


class MegaDepthPairs(PosedRecordPairs):
    """The posed pairs of MegaDepth's scene files.

    Args:
        files: one ``.npz``, several, a folder of them, or a text file with the name of one on each line (with or
            without ``.npz``, relative to the text file).
        images: the folder that ``image_paths`` are relative to (the one with ``Undistorted_SfM`` or ``phoenix``); by
            default that of the first file.
        overlap: pairs of more than the first and at most the second number are taken. By default all of ``pair_infos``,
            and 0.1 to 0.7 of an ``overlap_matrix``.
        pairs_per_file: at most so many of each file, evenly spaced over its pairs.
        principal_point_shift: added to cx and cy of the files, pixels: COLMAP's origin to the centre of a pixel.

    Raises:
        InputError: what is wrong with which key of which file, in one line. Files run nothing: they are read as data.

    Example:
        >>> MegaDepthPairs("megadepth_test_1500_scene_info", "megadepth", image_size=1200)  # doctest: +SKIP
    """

    def __init__(
        self,
        files: str | Path | Sequence[str | Path],
        images: str | Path | None = None,
        *,
        overlap: tuple[float, float] | None = None,
        pairs_per_file: int | None = None,
        principal_point_shift: float = -0.5,
        image_size: int | None = None,
        cache_mb: float = 1024.0,
    ) -> None:
        if overlap is not None and not overlap[0] < overlap[1]:
            raise InputError(f"expected an overlap from a smaller to a larger number, got {overlap}; try (0.1, 0.7)")
        paths = _scene_files(files)
        source = paths[0] if len(paths) == 1 else paths[0].parent
        root = paths[0].parent if images is None else Path(images)

        def located() -> Iterator[tuple[str, PairRecord]]:
            for path in paths:
                scene = _Scene(path, root, principal_point_shift)
                yield from scene.records(evenly_spaced(scene.pairs(overlap), pairs_per_file))

        super().__init__(located(), image_size=image_size, cache_mb=cache_mb, source=source)


class _Scene:
    """One file: its arrays, checked where a pair needs them."""

    def __init__(self, path: Path, root: Path, shift: float) -> None:
        self.path, self.root, self.shift = path, root, shift
        self.arrays = read_arrays(path, _KEYS)
        missing = [key for key in _KEYS[:3] if key not in self.arrays]
        if missing or not self.arrays.keys() & set(_KEYS[3:]):
            needed = ", ".join(missing) or "pair_infos or overlap_matrix"
            raise InputError(f"{path}: missing {needed}; expected a scene file of MegaDepth (LoFTR's or D2-Net's)")
        counts = {key: _length(self.arrays[key]) for key in _KEYS[:3]}
        if len(set(counts.values())) != 1:
            raise InputError(
                f"{path}: expected as many image_paths as intrinsics and poses, got {counts}; fetch it again"
            )
        self.count = counts["image_paths"]
        self.cameras: dict[int, Camera] = {}

    def pairs(self, overlap: tuple[float, float] | None) -> list[tuple[int, int]]:
        """The pairs of images within the overlap."""
        if "pair_infos" in self.arrays:
            low, high = (-np.inf, np.inf) if overlap is None else overlap
            found = [pair for pair, shared in self._listed_pairs() if low < shared <= high]
        else:
            low, high = MATRIX_OVERLAP if overlap is None else overlap
            matrix = self._overlap_matrix()
            rows, columns = np.nonzero(np.triu((matrix > low) & (matrix <= high), k=1))
            found = list(zip(rows.tolist(), columns.tolist()))
        if not found:
            raise InputError(f"{self.path}: no pair with an overlap above {low:g} and up to {high:g}; widen overlap=")
        return found

    def records(self, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[str, PairRecord]]:
        """Where in the file, and the record of each pair."""
        name = self.path.stem
        scene = re.split(r"[._]", name)[0] if re.match(r"\d{4}[._]", name) else name
        for number, (first, second) in enumerate(pairs):
            cameras = self._camera(first), self._camera(second)
            record = posed_record(*cameras, scene)
            location = f"{self.path}, pair {number} (images {first} and {second})"
            check_baseline(record, location, *cameras)
            yield location, record

    def _listed_pairs(self) -> Iterator[tuple[tuple[int, int], float]]:
        for number, info in enumerate(self.arrays["pair_infos"]):
            try:
                (first, second), shared = info[0], float(info[1])
                pair = int(first), int(second)
            except (TypeError, ValueError, IndexError, KeyError):
                raise InputError(
                    f"{self.path}, pair_infos[{number}]: expected ((i, j), overlap, …), got {str(info)[:60]!r}; "
                    "fetch the file again"
                ) from None
            if not all(0 <= index < self.count for index in pair) or pair[0] == pair[1]:
                raise InputError(
                    f"{self.path}, pair_infos[{number}]: expected two of the {self.count} images, got {pair}; "
                    "fetch the file again"
                )
            yield pair, shared

    def _overlap_matrix(self) -> np.ndarray:
        matrix = _as_floats(self.arrays["overlap_matrix"], (self.count, self.count))
        if matrix is None:
            raise InputError(f"{self.path}: overlap_matrix: expected {self.count}×{self.count} numbers; fetch it again")
        return matrix

    def _camera(self, index: int) -> Camera:
        if index not in self.cameras:
            self.cameras[index] = self._checked_camera(index)
        return self.cameras[index]

    def _checked_camera(self, index: int) -> Camera:
        location = f"{self.path}, image {index}"
        name, K, pose = (self.arrays[key][index] for key in _KEYS[:3])
        if not isinstance(name, str):
            raise InputError(
                f"{location}: image_paths: expected a path, got {str(name)[:40]!r}; a pair needs this image"
            )
        path = self.root / name
        check_image(path, location, self.root)
        K, pose = _as_floats(K, (3, 3)), _as_floats(pose, (4, 4))
        if K is None or pose is None:
            key, shape = ("intrinsics", "3×3") if K is None else ("poses", "4×4")
            raise InputError(f"{location}: {key}: expected {shape} numbers; a pair needs this image")
        K = K + self.shift * np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
        camera = Camera(path, K, pose[:3, :3], pose[:3, 3])
        check_camera(camera, location)
        return camera


def _scene_files(files: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(files, str | Path):
        if not files:
            raise InputError("expected at least one .npz file of MegaDepth, got none")
        return [Path(file) for file in files]
    path = Path(files)
    if path.is_dir():
        found = sorted(path.glob("*.npz"))
        if not found:
            raise InputError(f"{path}: expected .npz files of MegaDepth in this folder, found none")
        return found
    if path.suffix != ".txt":
        return [path]
    names = (name for _, name in read_names(path))
    return [path.parent / (name if name.endswith(".npz") else f"{name}.npz") for name in names]


def _length(values: Any) -> int:
    return len(values) if isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim) else -1


def _as_floats(values: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The values as float64 of this shape (flat ones too), or None where they are something else."""
    try:
        return np.asarray(values, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        return None
