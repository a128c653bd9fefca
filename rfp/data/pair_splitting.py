"""A folder of posed pairs into two whose images are disjoint: what trains, and what judges."""

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rfp.data.pair_records import read_raw_records, record_location, record_problems
from rfp.data.pair_writing import new_folder, write_pairs
from rfp.records import InputError

FILE_KEYS = ("image1", "image2", "sparse_depth1", "sparse_depth2")


@dataclass(frozen=True)
class SplitFolders:
    """What was written, the first folder's number before the second's."""

    num_images: tuple[int, int]
    num_pairs: tuple[int, int]
    num_left_out: int
    """Pairs of an image of either: they belong to neither."""


def split_pairs(folder: str | Path, first: str | Path, second: str | Path, *, block: int = 1) -> SplitFolders:
    """Write the pairs among one part of a folder's images, and those among the others, as two folders.

    The images, in the order of their names, are dealt out in turn, ``block`` at a time: every other one by default, so
    that both parts see all of the place. Larger blocks leave the second part with places that the first hardly shows.

    Args:
        first: The folder to train on; it gets the first image. Neither may exist yet.
        second: The folder to judge on.

    Raises:
        InputError: the folder cannot be read; a part would have no pair; images that lie elsewhere; something is there
            already.
    """
    folder = Path(folder)
    if block < 1:
        raise InputError(f"expected block of at least 1, got {block}; 1 deals out every other image")
    records = read_raw_records(folder)
    for index, record in enumerate(records):
        for problem in (*record_problems(record, folder), *_outside(record)):
            raise InputError(f"{record_location(folder, index)}: {problem}")
    names = sorted({record[key] for record in records for key in ("image1", "image2")})
    number_of = {name: place // block % 2 for place, name in enumerate(names)}
    parts: list[list[dict[str, Any]]] = [[], []]
    for record in records:
        part = number_of[record["image1"]]
        if part == number_of[record["image2"]]:
            # A record without a scene is of the folder's, whose name changes.
            parts[part].append({**record, "scene": record.get("scene") or folder.resolve().name})
    if not all(parts):
        raise InputError(
            f"{folder}: {len(names)} images dealt out {block} at a time leave {len(parts[0])} and {len(parts[1])} "
            "pairs; expected at least one in each, choose another block"
        )
    with new_folder(first) as one, new_folder(second) as two:
        for output, part in zip((one, two), parts, strict=True):
            for name in sorted({record[key] for record in part for key in FILE_KEYS if key in record}):
                (output / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, output / name)
            write_pairs(output, part)
    num_images = tuple(len({record[key] for record in part for key in ("image1", "image2")}) for part in parts)
    num_pairs = (len(parts[0]), len(parts[1]))
    return SplitFolders((num_images[0], num_images[1]), num_pairs, len(records) - sum(num_pairs))


def _outside(record: dict[str, Any]):
    for key in FILE_KEYS:
        path = PurePosixPath(str(record.get(key, "")).replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            yield f"{key} {record[key]}: expected a path inside the folder; copy the images there"
