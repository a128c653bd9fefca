"""``rfp inspect``: what a folder of posed pairs holds, and everything that is wrong with it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rfp.cli.output import check_can_write, write_figures
from rfp.cli.pose_check import DrawnPoseCheck, check_pose, evenly_spaced
from rfp.data.inspection import QUANTILES, FolderInspection, inspect_folder
from rfp.data.pair_records import read_distinct_records
from rfp.models import load_network
from rfp.plotting import draw_epipolar_lines, save_figure
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

    A pose of another convention (camera to world, OpenGL's axes, K of another size) passes those checks. With --picture
    some pairs are matched, and the epipolar lines of the poses as given are drawn: lines that miss the rings of their
    colour show a wrong pose or a wrong K.

    In use:
      what it holds, what is wrong:   rfp inspect lund_door ngp_fox
      are the poses right, too:       rfp inspect my_data --picture poses.png
      for a script:                   rfp inspect my_data --json figures.json
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER …")]
    """Folders with images/ and pairs.json."""
    picture: Path | None = None
    """Draw the epipolar lines of some pairs to this file: .png, .jpg, .pdf or .svg."""
    pairs_drawn: int = 3
    """Pairs of each folder in the picture, evenly spaced in the file."""
    network: str = "tiny"
    """Whose matches are drawn: a pretrained network's name, a run folder of rfp train, or a weights file."""
    json: Path | None = None
    """Write the figures and faults to this file."""


def run(command: Inspect) -> None:
    """Inspect, print, write.

    Raises:
        InputError: something is wrong with a folder; what, has been printed.
    """
    check_can_write(command.json)
    check_can_write(command.picture)
    if not command.folders:
        raise InputError("expected at least one folder to inspect, got none; give the folders' names")
    if command.pairs_drawn < 1:
        raise InputError(f"--pairs-drawn: expected at least 1, got {command.pairs_drawn}; 3 is usual")
    inspections = []
    for folder in command.folders:
        inspections.append(inspect_folder(folder))
        print(_describe(inspections[-1]))
    sound = [Path(inspection.folder) for inspection in inspections if not inspection.problems]
    poses = _check_poses(command, sound) if command.picture else []
    num_problems = sum(len(inspection.problems) for inspection in inspections)
    write_figures(
        command.json,
        {
            "num_problems": num_problems,
            "folders": [asdict(inspection) for inspection in inspections],
            "poses": [asdict(check.pose) for check in poses],
        },
    )
    if num_problems:
        faulty = ", ".join(inspection.folder for inspection in inspections if inspection.problems)
        noun = "problem" if num_problems == 1 else "problems"
        raise InputError(f"{num_problems} {noun} in {faulty}; fix or remove what is listed above")


def _check_poses(command: Inspect, folders: list[Path]) -> list[DrawnPoseCheck]:
    """Matches of some pairs beside the poses that the file gives them: said and drawn."""
    assert command.picture is not None
    if not folders:
        return []
    network = load_network(command.network)
    checks = [
        check_pose(network, record)
        for folder in folders
        for record in evenly_spaced(read_distinct_records(folder), command.pairs_drawn)
    ]
    for check in checks:
        print(f"  {check.pose}")
    save_figure(draw_epipolar_lines([check.drawn for check in checks]), command.picture)
    print(f"picture: {command.picture}")
    return checks


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
