"""``rfp inspect``: what a folder of posed pairs holds, and everything that is wrong with it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rfp.cli.output import check_can_write, write_figures
from rfp.data.inspection import QUANTILES, FolderInspection, inspect_folder
from rfp.records import InputError

LABELS = {
    "rotation_deg": "rotation (°)",
    "parallax_deg": "parallax (°)",
    "baseline": "baseline (file's scale)",
    "focal_px": "focal length (px)",
    "field_of_view_deg": "field of view (°)",
}


@dataclass(frozen=True)
class Inspect:
    """Count and check folders of posed pairs before anything is trained or judged on them.

    Every record is checked and every image decoded. Problems (a record or an image that cannot be used) end with exit
    code 2; warnings (pairs listed twice, rounded rotations, intrinsics of another image size, unused images) do not.

    Example: rfp inspect lund_door ngp_fox
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders with images/ and pairs.json."""
    json: Path | None = None
    """Write the figures and faults to this file."""


def run(command: Inspect) -> None:
    """Inspect, print, write.

    Raises:
        InputError: something is wrong with a folder; what, has been printed.
    """
    check_can_write(command.json)
    if not command.folders:
        raise InputError("expected at least one folder to inspect, got none; give the folders' names")
    inspections = []
    for folder in command.folders:
        inspections.append(inspect_folder(folder))
        print(_describe(inspections[-1]))
    num_problems = sum(len(inspection.problems) for inspection in inspections)
    write_figures(
        command.json,
        {"num_problems": num_problems, "folders": [asdict(inspection) for inspection in inspections]},
    )
    if num_problems:
        faulty = ", ".join(inspection.folder for inspection in inspections if inspection.problems)
        noun = "problem" if num_problems == 1 else "problems"
        raise InputError(f"{num_problems} {noun} in {faulty}; fix or remove what is listed above")


def _describe(inspection: FolderInspection) -> str:
    lines = [f"{inspection.folder}: {inspection.num_pairs} pairs of {inspection.num_images} images"]
    if inspection.scenes:
        lines.append("  scenes: " + ", ".join(f"{name} ({count})" for name, count in inspection.scenes.items()))
    if inspection.image_sizes:
        sizes = [f"{size} ({count})" for size, count in inspection.image_sizes.items()]
        lines.append("  sizes:  " + ", ".join(sizes[:6]) + (", …" if len(sizes) > 6 else ""))
    if inspection.quantiles:
        lines.append("  " + " " * 24 + "".join(f"{name:>9}" for name in QUANTILES))
        for name, values in inspection.quantiles.items():
            lines.append(f"  {LABELS[name]:<24}" + "".join(f"{value:9.4g}" for value in values.values()))
    lines += [f"  problem: {problem}" for problem in inspection.problems]
    lines += [f"  warning: {warning}" for warning in inspection.warnings]
    if not inspection.problems and not inspection.warnings:
        lines.append("  nothing wrong")
    return "\n".join(lines)
