"""A folder of image pairs and their homographies: ``homographies.json``, a list of ``{image1, image2, H}``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rfp.data.sets.cameras import check_image
from rfp.data.sets.homography_records import (
    HomographyRecord,
    HomographyRecordPairs,
    homography_problem,
    homography_record,
)
from rfp.data.sets.text_files import read_text
from rfp.records import InputError

FILE = "homographies.json"


class HomographyFolder(HomographyRecordPairs):
    """The pairs of a folder with ``homographies.json``: H takes pixels of image 1 to image 2, pixel (0, 0) a centre.

    Records may name their ``scene``; otherwise the folder does. Other keys are free.

    Raises:
        InputError: what is wrong with which record, in one line.

    Example:
        >>> HomographyFolder("homography_pairs", image_size=640)[0].H  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, *, image_size: int | None = None, cache_mb: float = 1024.0) -> None:
        folder = Path(folder)
        super().__init__(
            _records(folder),
            image_size=image_size,
            cache_mb=cache_mb,
            source=folder,
        )


def _records(folder: Path) -> Iterator[tuple[str, HomographyRecord]]:
    file = folder / FILE
    try:
        raw_records = json.loads(read_text(file), parse_int=float)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not JSON: {error.msg}, line {error.lineno}; write the file again") from None
    if not isinstance(raw_records, list) or not raw_records:
        raise InputError(f"{file}: expected a list of at least one {{image1, image2, H}}")
    for index, raw in enumerate(raw_records):
        location = f"{file}, record {index} (counting from 0)"
        yield location, _record(raw, location, folder)


def _record(raw: Any, location: str, folder: Path) -> HomographyRecord:
    missing = [key for key in ("image1", "image2", "H") if not isinstance(raw, dict) or key not in raw]
    if missing:
        raise InputError(f"{location}: missing {', '.join(missing)}; expected {{image1, image2, H}}")
    for key in ("image1", "image2"):
        if not isinstance(raw[key], str) or not raw[key]:
            raise InputError(f"{location}: {key}: expected a path relative to {folder}, got {raw[key]!r:.40}")
        check_image(folder / raw[key], location, folder)
    if raw["image1"] == raw["image2"]:
        raise InputError(f"{location}: image1 and image2 are the same file ({raw['image1']}); remove the record")
    try:
        H = np.array(raw["H"], dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{location}: H: expected 3×3 numbers, got {json.dumps(raw['H'])[:60]}; correct it") from None
    problem = homography_problem(H)
    if problem:
        raise InputError(f"{location}: {problem}")
    scene = str(raw.get("scene") or folder.resolve().name)
    return homography_record(folder / raw["image1"], folder / raw["image2"], H, scene)
