"""A folder of posed pairs into two whose images are disjoint: what trains, and what judges."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rfp.data.pair_records import read_distinct_records, record_location
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
    """How many images and pairs went to either of two new folders: no image is in both, and each pair is as it was.

    The images, in the order of their names, are dealt out in turn, ``block`` at a time: every other one by default, so
    that both parts see all of the place. Larger blocks leave the second part with places that the first hardly shows.

    Args:
        first: The folder to train on; it gets the first image. Neither may exist yet.
        second: The folder to judge on.

    Raises:
        InputError: the folder cannot be read; a part would have no pair; images that lie elsewhere; something is there
            already.
    """
    folder, outputs = Path(folder), (Path(first), Path(second))
    if block < 1:
        raise InputError(f"expected block of at least 1, got {block}; 1 deals out every other image")
    one, two = (output.resolve() for output in outputs)
    if one == two or one in two.parents or two in one.parents:
        raise InputError(f"expected two folders, neither within the other, got {first} and {second}")
    records = _distinct_raw_records(folder)
    file_of = {name: (folder / name).resolve() for record in records for name in _images(record)}
    number_of = {file: place // block % 2 for place, file in enumerate(sorted(set(file_of.values())))}
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for record in records:
        part, other = (number_of[file_of[name]] for name in _images(record))
        if part == other:
            # A record without a scene is of the folder's, whose name changes.
            parts[part].append({**record, "scene": record.get("scene") or folder.resolve().name})
    if not all(parts):
        raise InputError(
            f"{folder}: {len(number_of)} images dealt out {block} at a time leave {len(parts[0])} and {len(parts[1])} "
            "pairs; expected at least one in each, choose another block"
        )
    with new_folder(second) as judging, new_folder(first) as training:
        for output, part in zip((training, judging), parts, strict=True):
            for name in sorted({record[key] for record in part for key in FILE_KEYS if record.get(key) is not None}):
                (output / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, output / name)
            write_pairs(output, part)
    num_images = tuple(len({file_of[name] for record in part for name in _images(record)}) for part in parts)
    num_pairs = (len(parts[0]), len(parts[1]))
    return SplitFolders((num_images[0], num_images[1]), num_pairs, len(records) - sum(num_pairs))


def _images(record: dict[str, Any]) -> tuple[str, str]:
    return record["image1"], record["image2"]


def _distinct_raw_records(folder: Path) -> list[dict[str, Any]]:
    """The checked records as the file has them, each two images once."""
    read_distinct_records(folder)  # refuses what no reader takes, and warns of pairs that occur twice
    # Once more, since numbers of further keys are to stay what they are: the check reads integers as floats.
    records = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    for index, record in enumerate(records):
        for problem in _missing_or_outside(record, folder):
            raise InputError(f"{record_location(folder, index)}: {problem}")
    distinct: dict[frozenset[Path], dict[str, Any]] = {}
    for record in records:
        distinct.setdefault(frozenset((folder / name).resolve() for name in _images(record)), record)
    return list(distinct.values())


def _missing_or_outside(record: dict[str, Any], folder: Path) -> Iterator[str]:
    for key in FILE_KEYS:
        if record.get(key) is None:
            continue
        path = PurePosixPath(str(record[key]).replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            yield f"{key} {record[key]}: expected a path inside the folder; copy the file there"
        elif not (folder / path).is_file():
            yield f"{key} {record[key]}: no such file; remove the key or write the file again"
