"""What a folder of posed pairs holds, and everything that is wrong with it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rfp.data.camera_problems import rotation_defect
from rfp.data.distinct_records import DistinctRecords
from rfp.data.images import read_image
from rfp.data.intrinsics import intrinsics_doubt
from rfp.data.pair_records import (
    PairRecord,
    make_record,
    read_raw_records,
    record_location,
    record_problems,
)
from rfp.records import InputError

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}

ROUNDED_ROTATION = 1e-5
"""RᵀR - I beyond this is worth a warning: six digits or more keep it below."""


@dataclass(frozen=True)
class FolderInspection:
    """Counts, figures and faults of one folder. Problems keep it from being used; warnings do not."""

    folder: str
    num_pairs: int = 0
    num_images: int = 0
    scenes: dict[str, int] = field(default_factory=dict)
    """Pairs of each scene."""
    image_sizes: dict[str, int] = field(default_factory=dict)
    """Images of each size, "width×height"."""
    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of rotation_deg, parallax_deg (where the file gives it), baseline (in the file's own scale), focal_px and
    field_of_view_deg (across the width)."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def inspect_folder(folder: str | Path) -> FolderInspection:
    """The inspection of ``folder``; every record is checked and every image decoded. Never raises for bad content."""
    folder = Path(folder)
    try:
        raw_records = read_raw_records(folder)
    except InputError as error:
        return FolderInspection(folder=str(folder), problems=[str(error)])
    problems: list[str] = []
    records: dict[int, PairRecord] = {}
    for index, raw in enumerate(raw_records):
        found = list(record_problems(raw, folder))
        problems += [f"{record_location(folder, index)}: {problem}" for problem in found]
        if not found:
            records[index] = make_record(raw, folder)
    paths = list(dict.fromkeys(path for record in records.values() for path in (record.image1, record.image2)))
    sizes, unreadable = _decode(paths)
    contradictions, repeated = _repeated(records, folder)
    warnings = [
        *repeated,
        *_rounded_rotations(records, folder),
        *_odd_intrinsics(records, sizes, folder),
        *_unused_images(raw_records, folder),
    ]
    return FolderInspection(
        folder=str(folder),
        num_pairs=len(raw_records),
        num_images=len(paths),
        scenes=dict(Counter(record.scene for record in records.values())),
        image_sizes=dict(Counter(f"{width}×{height}" for width, height in sizes.values()).most_common()),
        quantiles=_quantiles(raw_records, records, sizes),
        problems=problems + contradictions + unreadable,
        warnings=warnings,
    )


def _decode(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """(width, height) of the images that can be read, and a line for each that cannot."""
    sizes, unreadable = {}, []
    for path in paths:
        try:
            height, width = read_image(path).shape[-2:]
            sizes[path] = (width, height)
        except InputError as error:
            unreadable.append(str(error))
    return sizes, unreadable


def _quantiles(
    raw_records: list, records: dict[int, PairRecord], sizes: dict[Path, tuple[int, int]]
) -> dict[str, dict[str, float]]:
    cameras = {(record.image1, tuple(record.K1.flatten().tolist())) for record in records.values()}
    cameras |= {(record.image2, tuple(record.K2.flatten().tolist())) for record in records.values()}
    fields_of_view = [
        2 * torch.rad2deg(torch.atan(torch.tensor(sizes[path][0] / 2 / K[0]))).item()
        for path, K in cameras
        if path in sizes
    ]
    values = {
        "rotation_deg": [_rotation_angle_deg(record) for record in records.values()],
        "parallax_deg": [
            raw_records[index]["parallax_deg"]
            for index in records
            if isinstance(raw_records[index].get("parallax_deg"), int | float)
        ],
        "baseline": [record.t.norm().item() for record in records.values()],
        "focal_px": [(K[0] + K[4]) / 2 for _, K in cameras],
        "field_of_view_deg": fields_of_view,
    }
    levels = torch.tensor(list(QUANTILES.values()), dtype=torch.float64)
    return {
        name: dict(zip(QUANTILES, torch.tensor(numbers, dtype=torch.float64).quantile(levels).tolist()))
        for name, numbers in values.items()
        if numbers
    }


def _rotation_angle_deg(record: PairRecord) -> float:
    R = record.R
    axis = torch.stack([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    return torch.rad2deg(torch.atan2(axis.norm() / 2, (R.trace() - 1) / 2)).item()


def _repeated(records: dict[int, PairRecord], folder: Path) -> tuple[list[str], list[str]]:
    """(problems, warnings): records that contradict an earlier one or pair an image with itself; that repeat one."""
    distinct: DistinctRecords[PairRecord] = DistinctRecords()
    problems, repeated = [], []
    for index, record in records.items():
        location = record_location(folder, index)
        try:
            if not distinct.add(location, record):
                repeated.append(f"{location}: the same two images as an earlier record; they count once")
        except InputError as error:
            problems.append(str(error))
    return problems, repeated


def _rounded_rotations(records: dict[int, PairRecord], folder: Path) -> Iterator[str]:
    for index, record in records.items():
        defect = rotation_defect(record.R.numpy())
        if defect > ROUNDED_ROTATION:
            yield f"{record_location(folder, index)}: R is off a rotation by {defect:.1g}; write more digits"


def _odd_intrinsics(records: dict[int, PairRecord], sizes: dict[Path, tuple[int, int]], folder: Path) -> Iterator[str]:
    """Intrinsics that belong to another size of the image, most likely."""
    seen = set()
    for index, record in records.items():
        for path, K in ((record.image1, record.K1), (record.image2, record.K2)):
            if path not in sizes or path in seen:
                continue
            seen.add(path)
            doubt = intrinsics_doubt(K, sizes[path])
            if doubt:
                yield f"{record_location(folder, index)}: {path.name}: {doubt}"


def _unused_images(raw_records: list, folder: Path) -> Iterator[str]:
    named = {raw.get(key) for raw in raw_records if isinstance(raw, dict) for key in ("image1", "image2")}
    used = {(folder / name).resolve() for name in named if isinstance(name, str)}
    images = folder / "images"
    unused = [path.name for path in sorted(images.glob("*")) if path.is_file() and path.resolve() not in used]
    if unused:
        shown = ", ".join(unused[:3]) + (", …" if len(unused) > 3 else "")
        yield f"{images}: {len(unused)} files that no pair uses: {shown}"
