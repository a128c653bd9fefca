"""HPatches' image sequences: folders ``i_*`` (light changes) and ``v_*`` (viewpoint changes) of six images each.

Relied on, from the data set's description and its common use: ``1.ppm`` to ``6.ppm``; ``H_1_k``, three lines of three
numbers, takes pixels of image 1 to pixels of image k, the centre of the top-left pixel being (0, 0).
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from rfp.data.sets.homography_records import (
    HomographyPair,
    HomographyRecord,
    HomographyRecordPairs,
    homography_problem,
    homography_record,
)
from rfp.data.sets.text_files import parse_numbers, read_lines
from rfp.records import InputError

__all__ = ["LARGE_SEQUENCES", "HPatches", "HomographyPair"]

LARGE_SEQUENCES = (
    "i_contruction",
    "i_crownnight",
    "i_dc",
    "i_pencils",
    "i_whitebuilding",
    "v_artisans",
    "v_astronautis",
    "v_talent",
)
"""The eight sequences of images above 1600×1200 pixels that D2-Net's protocol, and most figures since, leave out."""

_PREFIXES = {"all": ("i_", "v_"), "illumination": ("i_",), "viewpoint": ("v_",)}
_SUFFIXES = (".ppm", ".png", ".jpg", ".jpeg", ".pgm", ".bmp", ".webp", ".tif", ".tiff")


class HPatches(HomographyRecordPairs):
    """The pairs (1, 2) to (1, 6) of HPatches' sequences, with their homographies.

    Args:
        folder: the folder of the sequences, or one sequence. Images may have been converted (``1.png``).
        kind: which sequences.
        leave_out: sequences that do not count, by name; :data:`LARGE_SEQUENCES` gives the usual 108 of 116.

    Raises:
        InputError: which file is missing or wrong, in one line.

    Example:
        >>> HPatches("hpatches-sequences-release", leave_out=LARGE_SEQUENCES, image_size=640)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        kind: Literal["all", "illumination", "viewpoint"] = "all",
        leave_out: Collection[str] = (),
        image_size: int | None = None,
        cache_mb: float = 1024.0,
    ) -> None:
        if kind not in _PREFIXES:
            raise InputError(f"expected kind all, illumination or viewpoint, got {kind!r}")
        folder = Path(folder)
        sequences = [path for path in _sequences(folder, _PREFIXES[kind]) if path.name not in leave_out]
        if not sequences:
            raise InputError(f"{folder}: no sequence is left ({kind}, {len(leave_out)} left out); expected i_* or v_*")
        located = (found for sequence in sequences for found in _records(sequence))
        super().__init__(located, image_size=image_size, cache_mb=cache_mb, source=folder)


def is_sequence(folder: Path) -> bool:
    """Whether a folder looks like one sequence."""
    return any(folder.glob("H_1_[2-6]"))


def _sequences(folder: Path, prefixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected HPatches' sequences i_* and v_*")
    if is_sequence(folder):
        return [folder]
    found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.startswith(("i_", "v_")))
    if not found:
        raise InputError(f"{folder}: expected HPatches' sequences, folders i_* and v_* with H_1_2 in them; found none")
    return [path for path in found if path.name.startswith(prefixes)]


def _records(sequence: Path) -> Iterator[tuple[str, HomographyRecord]]:
    for number in range(2, 7):
        file = sequence / f"H_1_{number}"
        yield (
            str(file),
            homography_record(_image(sequence, 1), _image(sequence, number), _homography(file), sequence.name),
        )


def _image(sequence: Path, number: int) -> Path:
    for suffix in _SUFFIXES:
        path = sequence / f"{number}{suffix}"
        if path.is_file():
            return path
    raise InputError(f"{sequence / f'{number}.ppm'}: no such image; expected 1 to 6 (.ppm, .png, .jpg) in the sequence")


def _homography(file: Path) -> np.ndarray:
    rows = [parse_numbers(words, location) for location, words in read_lines(file)]
    if [len(row) for row in rows] != [3, 3, 3]:
        raise InputError(
            f"{file}: expected 3 lines of 3 numbers, got lines of {[len(row) for row in rows]}; is it complete?"
        )
    H = np.array(rows)
    problem = homography_problem(H)
    if problem:
        raise InputError(f"{file}: {problem}")
    return H
