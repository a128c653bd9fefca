"""``rfp export weights | onnx | pt2``: the network itself, for other tools."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rfp.export.complete_files import check_may_write
from rfp.export.onnx import write_onnx
from rfp.export.programs import PARTS, ExportedFiles, part_path, write_programs
from rfp.export.state_dicts import write_state_dict
from rfp.models import load_network


@dataclass(frozen=True)
class Weights:
    """The weights as a plain state dict (.pth), under the names that the network's own project gave them.

    ALIKED's and DISK's files load into kornia and into the original programs, superpoint's into Magic Leap's network
    and superpoint-open's into rpautrat's. --network FILE.pth reads all of them again.

    In use:
      a run:                  rfp export weights runs/castle aliked-t16.pth
      then, with kornia:      ALIKED("aliked-t16").load_state_dict(torch.load("aliked-t16.pth"), strict=False)
      DISK has an entry:      DISK().load_state_dict(torch.load("disk.pth")["extractor"])
    """

    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")]
    """A run folder of rfp train, a weights file, or a pretrained network's name."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The file to write: .pth or .pt."""
    overwrite: bool = False
    """Replace a file that is there already."""


@dataclass(frozen=True)
class Onnx:
    """ONNX files for images of any size, compared with the network in onnxruntime before they are kept.

    OUT.onnx takes images and gives log_heat and feature_map; OUT.describe.onnx takes these and points, and gives
    descriptors; OUT.refine.onnx, for tiny and ALIKED, moves points to sub-pixel positions. What inputs and outputs mean
    stands in the files. The largest difference from the network is printed.

    In use:
      the small network:      rfp export onnx tiny.onnx
      a run:                  rfp export onnx castle.onnx --network runs/castle
      SuperPoint:             rfp export onnx superpoint.onnx --network superpoint_v6_from_tf.pth
    """

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The first file to write: .onnx."""
    network: str = "tiny"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True)
class Pt2:
    """Programs of torch.export for images of any size, which run without rfp.

    The same parts as rfp export onnx: OUT.pt2, OUT.describe.pt2 and, for tiny and ALIKED, OUT.refine.pt2. The largest
    difference from the network is printed.

    In use:
      the small network:      rfp export pt2 tiny.pt2
      then, in Python:        log_heat, feature_map = torch.export.load("tiny.pt2").module()(images)
    """

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The first file to write: .pt2."""
    network: str = "tiny"
    """A pretrained network's name, a run folder of rfp train, or a weights file."""
    overwrite: bool = False
    """Replace files that are there already."""


def write_weights(command: Weights) -> None:
    """Write the state dict and say whose names it has."""
    check_may_write(command.output, overwrite=command.overwrite)
    written = write_state_dict(load_network(command.network), command.output)
    inside = f", under the key {written.entry!r}" if written.entry else ""
    print(f"{written.path}: {written.num_tensors} tensors by the names of {written.source}{inside}")
    print(
        f"licence of the weights that {written.source} publishes, and of what is trained from them: {written.licence}"
    )


def write_onnx_files(command: Onnx) -> None:
    """Write, verify and say how far the files are from the network."""
    _write(command, write_onnx, "onnxruntime")


def write_pt2_files(command: Pt2) -> None:
    """Write, verify and say how far the files are from the network."""
    _write(command, write_programs, "torch.export")


def _write(command: Onnx | Pt2, write: Callable[[Any, Path], ExportedFiles], runner: str) -> None:
    for part in PARTS:
        check_may_write(part_path(command.output, part), overwrite=command.overwrite)
    written = write(load_network(command.network), command.output)
    for path in written.paths:
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    worst = max(written.differences.values())
    print(f"largest difference between {runner} and the network, at two image sizes: {worst:.1e}")
    print("  " + ", ".join(f"{name} {value:.1e}" for name, value in written.differences.items()))
