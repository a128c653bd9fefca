"""What is wrong with the files of a COLMAP model, found before pycolmap reads them.

pycolmap makes any four numbers a rotation, zeros included, and goes on for minutes in a binary file that ends early.
The layouts are those of https://colmap.github.io/format.html.
"""

import math
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from rfp.records import InputError

QUATERNION_TOLERANCE = 1e-3
"""How far the length of a quaternion may be from 1: files round to 3–17 digits; a wrong column is off by far more."""


def check_model_files(folder: Path) -> None:
    """Refuse a model that is not there, ends early, or holds quaternions that are no rotations.

    Raises:
        InputError: what is missing and where a model may be; the file that is truncated; the quaternion's place.
    """
    suffix = _suffix(folder)
    path = folder / f"images.{suffix}"
    poses = list(_poses_in_binary(path) if suffix == "bin" else _poses_in_text(path, columns_before=1))
    if suffix == "bin":
        _check_points(folder / "points3D.bin")
    elif (folder / "frames.txt").is_file():
        poses += _poses_in_text(folder / "frames.txt", columns_before=2)
    for place, quaternion in poses:
        length = math.hypot(*quaternion)
        if not abs(length - 1) <= QUATERNION_TOLERANCE:
            raise InputError(
                f"{place}: expected a quaternion (QW QX QY QZ) of length 1 within {QUATERNION_TOLERANCE:g}, "
                f"got length {length:.6g}; normalise it, or export the model again"
            )


def check_cameras_file(folder: Path, parameters: Sequence[int]) -> None:
    """Refuse a cameras.bin that ends before the last of its parameters: pycolmap reads zeros, or what lay about.

    Args:
        parameters: How many numbers each camera, as read, has.

    Raises:
        InputError: the file is truncated.
    """
    path = folder / "cameras.bin"
    if path.is_file() and _suffix(folder) == "bin":
        _check_end(path, 8 + sum(24 + 8 * count for count in parameters), path.stat().st_size)


def _suffix(folder: Path) -> str:
    """The format of the model: bin before txt, as pycolmap has it."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a COLMAP model (cameras, images and points3D)")
    missing = {
        suffix: [
            name for kind in ("cameras", "images", "points3D") if not (folder / (name := f"{kind}.{suffix}")).is_file()
        ]
        for suffix in ("bin", "txt")
    }
    for suffix, names in missing.items():
        if not names:
            return suffix
    inside = sorted(path.parent for path in folder.glob("*/**/cameras.*"))
    hint = f"did you mean {inside[0]}?" if inside else "expected cameras, images and points3D, all .bin or all .txt"
    fewest = min(missing.values(), key=len)
    what = "holds no COLMAP model" if len(fewest) == 3 else f"the COLMAP model lacks {', '.join(fewest)}"
    raise InputError(f"{folder}: {what}; {hint}")


def _poses_in_text(path: Path, *, columns_before: int) -> Iterator[tuple[str, Sequence[float]]]:
    """Place and quaternion of each pose. In images.txt every other line is one of 2-D points, and may be empty."""
    is_points = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if re.match(r"\s*#", line) or (not line.strip() and not is_points):
                continue
            if not is_points:
                words = line.split()[columns_before : columns_before + 4]
                try:
                    yield f"{path}, line {number}", [float(word) for word in words]
                except ValueError:
                    raise InputError(f"{path}, line {number}: expected four numbers QW QX QY QZ, got {words}") from None
            is_points = path.name == "images.txt" and not is_points


def _poses_in_binary(path: Path) -> Iterator[tuple[str, Sequence[float]]]:
    """IMAGE_ID, quaternion, translation, CAMERA_ID, a name that ends with a zero, and the 2-D points of 24 bytes."""
    data = path.read_bytes()
    try:
        (count,) = struct.unpack_from("<Q", data)
        position = 8
        for _ in range(count):
            number, *quaternion = struct.unpack_from("<I4d", data, position)
            end_of_name = data.index(b"\0", position + 64)
            (num_points,) = struct.unpack_from("<Q", data, end_of_name + 1)
            name = data[position + 64 : end_of_name].decode("utf-8", errors="replace")
            position = end_of_name + 9 + 24 * num_points
            yield f"{path}, image {number} ({name})", quaternion
    except (struct.error, ValueError):
        position = len(data) + 1
    _check_end(path, position, len(data))


def _check_points(path: Path) -> None:
    """POINT3D_ID, place, colour and error take 43 bytes; then the length of the track, and 8 bytes for each of it."""
    data = path.read_bytes()
    try:
        (count,) = struct.unpack_from("<Q", data)
        position = 8
        for _ in range(count):
            position += 51 + 8 * struct.unpack_from("<Q", data, position + 43)[0]
    except struct.error:
        position = len(data) + 1
    _check_end(path, position, len(data))


def _check_end(path: Path, expected: int, size: int) -> None:
    if expected > size:
        raise InputError(f"{path}: the file is truncated or not COLMAP's; copy it again")
