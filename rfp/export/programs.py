"""A network as traced programs for images of any size: its maps, then descriptors and positions at given points."""

import contextlib
import copy
import importlib.metadata
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as tracer_options

from rfp.export.complete_files import complete_files
from rfp.models.pretrained import network_name
from rfp.models.state_layouts import LAYOUTS
from rfp.records import DenseFeatures, InputError
from rfp.rollout import FeatureNetwork, SubpixelNetwork

TOLERANCE = 1e-4
"""Largest difference from the network itself, relative to max(1, largest value of the output)."""

MEANING = {
    "images": "RGB in [0, 1], (batch, 3, height, width), any size",
    "log_heat": "log f of each pixel, (batch, height, width); P = softmax of it over the image",
    "feature_map": "what describe reads, (batch, channels, rows, columns), of the network's own scale and stride",
    "xy_px": "points (x, y) in pixels of the images, (batch, points, 2); (0, 0) is the centre of the top-left pixel",
    "descriptors": "unit-norm descriptors at the points, (batch, points, dimension)",
    "refined_xy_px": "the points moved to the sub-pixel peak of the heat around their pixel, (batch, points, 2)",
}
"""Every input and output of the parts, by name."""

PARTS = ("extract", "describe", "refine")

_VERIFIED_SIZES = ((64, 96), (51, 131))
_TRACED_SIZE = (70, 101)  # a multiple of no stride; verified at two others


@dataclass(frozen=True)
class NetworkProgram:
    """One part of a network, traced: ``extract``, ``describe``, or ``refine`` where the network has it."""

    part: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    program: ExportedProgram


@dataclass(frozen=True)
class ExportedFiles:
    """The files of a network's parts and how far they are from the network."""

    paths: tuple[Path, ...]
    differences: dict[str, float]
    """Largest difference of each output at sizes other than the traced one, relative to max(1, its largest value)."""


def part_path(path: Path, part: str) -> Path:
    """``tiny.onnx`` for extract, ``tiny.describe.onnx`` and ``tiny.refine.onnx`` for the others."""
    return path if part == "extract" else path.with_suffix(f".{part}{path.suffix}")


class _Extract(nn.Module):
    inputs, outputs = ("images",), ("log_heat", "feature_map")

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.extract(images)
        return features.log_heat, features.feature_map


class _Describe(_Extract):
    inputs, outputs = ("log_heat", "feature_map", "xy_px"), ("descriptors",)

    def forward(self, log_heat: Tensor, feature_map: Tensor, xy_px: Tensor) -> Tensor:
        return self.network.describe(DenseFeatures(log_heat, feature_map), xy_px)


class _Refine(_Extract):
    inputs, outputs = ("log_heat", "feature_map", "xy_px"), ("refined_xy_px",)

    def forward(self, log_heat: Tensor, feature_map: Tensor, xy_px: Tensor) -> Tensor:
        return self.network.refine(DenseFeatures(log_heat, feature_map), xy_px)


def trace_network(network: FeatureNetwork) -> tuple[NetworkProgram, ...]:
    """The network's parts by ``torch.export``, in eval mode, on the CPU; batch, image size and points are dynamic.

    Raises:
        InputError: torch.export cannot trace the network.
    """
    network = for_export(network)
    images, xy_px = _images(_TRACED_SIZE, batch=2), _points(_TRACED_SIZE, batch=2)
    with torch.no_grad():
        features = network.extract(images)
    examples = {
        "images": images,
        "log_heat": features.log_heat.contiguous(),
        "feature_map": features.feature_map.contiguous(),
        "xy_px": xy_px,
    }
    modules = (_Extract, _Describe, _Refine) if isinstance(network, SubpixelNetwork) else (_Extract, _Describe)
    return tuple(_trace(part, module(network), examples) for part, module in zip(PARTS, modules))


def for_export(network: Any) -> Any:
    """A copy of the network on the CPU, in eval mode, without gradients."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


def _trace(part: str, module: _Extract, examples: dict[str, Tensor]) -> NetworkProgram:
    # Channels are the network's; everything else may differ from call to call.
    fixed = {"images": 1, "feature_map": 1, "xy_px": 2}
    dynamic = {
        name: {axis: Dim.DYNAMIC for axis in range(examples[name].ndim) if axis != fixed.get(name)}
        for name in module.inputs
    }
    arguments = tuple(examples[name] for name in module.inputs)
    try:
        # Without it the trace holds for padded images alone or for unpadded ones alone: whether a crop is contiguous
        # would be decided once, by the example. torch.onnx traces in the same way.
        with torch.no_grad(), _quiet(), tracer_options.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            program = torch.export.export(module, arguments, dynamic_shapes=dynamic)
    except Exception as error:  # the tracer raises a dozen classes, for whatever a network may do
        raise InputError(
            f"{network_name(module.network)}: torch.export cannot trace {part} for images of any size "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); use static control flow"
        ) from error
    _keep_what_is_needed(program)
    return NetworkProgram(part, module.inputs, module.outputs, program)


def _keep_what_is_needed(program: ExportedProgram) -> None:
    """Drops the weights that a part does not read, the example, and each node's line of source on this machine."""
    program.example_inputs = None
    specifications = program.graph_signature.input_specs
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, specification in zip(placeholders, list(specifications), strict=True):
        if specification.target is not None and not node.users:  # a target is the name of a weight
            program.graph.erase_node(node)
            specifications.remove(specification)
            program.state_dict.pop(specification.target, None)
    program.graph_module.recompile()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)


def metadata(network: Any, program: NetworkProgram) -> dict[str, str]:
    """What a file of this part says about itself."""
    name = network_name(network)
    layout = LAYOUTS.get(name)
    return {
        "network": name,
        "part": program.part,
        "rfp_version": importlib.metadata.version("rfp"),
        "licence_of_weights": layout.licence if layout else "of whoever trained them",
        **{key: MEANING[key] for key in (*program.inputs, *program.outputs)},
    }


def largest_differences(
    network: FeatureNetwork, run: Callable[[str, dict[str, Tensor]], dict[str, Tensor]]
) -> dict[str, float]:
    """How far a network run elsewhere is from itself, output by output, at two image sizes that were not traced.

    max|found - expected| / max(1, max|expected|). Each part is given what the part before it found.

    Args:
        run: A part's outputs by name, from its inputs by name.
    """
    network, worst = for_export(network), {}
    for batch, size in enumerate(_VERIFIED_SIZES, start=1):
        images, xy_px = _images(size, batch), _points(size, batch)
        found = run("extract", {"images": images})
        maps = {**found, "xy_px": xy_px}
        found |= run("describe", maps)
        with torch.no_grad():
            features = network.extract(images)
            expected = {"log_heat": features.log_heat, "feature_map": features.feature_map}
            expected["descriptors"] = network.describe(features, xy_px)
            if isinstance(network, SubpixelNetwork):
                found |= run("refine", maps)
                expected["refined_xy_px"] = network.refine(features, xy_px)
        for name, value in expected.items():
            difference = (found[name] - value).abs().max() / value.abs().max().clamp_min(1.0)
            # A value that is no number in one and not in the other is as far away as can be.
            worst[name] = max(worst.get(name, 0.0), float(difference.nan_to_num(float("inf"))))
    return worst


def check_differences(differences: dict[str, float], path: Path) -> None:
    """Stops an export whose files do not compute what the network computes.

    Raises:
        RuntimeError: they do not; the output and its difference are named.
    """
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{path}: {name} differs from the network's by {difference:.1e}, more than {TOLERANCE:.0e}; not written"
            )


def write_programs(
    network: FeatureNetwork, path: str | os.PathLike[str], programs: Sequence[NetworkProgram] | None = None
) -> ExportedFiles:
    """Writes the traced parts as ``torch.export`` programs (``.pt2``), reads them again and compares them.

    ``torch.export.load("tiny.pt2").module()(images)`` needs torch and nothing of rfp.

    Args:
        programs: What `trace_network` gave for this network, where it is at hand; tracing takes seconds.

    Raises:
        InputError: a network that cannot be traced, or a name that does not end in ``.pt2``.
        RuntimeError: the files do not compute what the network computes; nothing is written.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise InputError(f"{path}: expected a name that ends in .pt2")
    programs = trace_network(network) if programs is None else programs
    paths = tuple(part_path(path, program.part) for program in programs)
    with complete_files(paths) as temporary, _quiet():
        loaded = {}
        for program, place in zip(programs, temporary, strict=True):
            about = {"rfp.json": json.dumps(metadata(network, program), indent=1)}
            with place.open("w+b") as file:  # by its temporary name torch would not know it
                torch.export.save(program.program, file, extra_files=about)
                file.seek(0)
                loaded[program.part] = program, torch.export.load(file).module()

        def run(part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
            program, module = loaded[part]
            found = module(*(values[name].contiguous() for name in program.inputs))
            return dict(zip(program.outputs, found if isinstance(found, tuple) else (found,), strict=True))

        differences = largest_differences(network, run)
        check_differences(differences, path)
    return ExportedFiles(paths, differences)


def _images(size: tuple[int, int], batch: int) -> Float[Tensor, "b 3 h w"]:
    """Noise of several scales, from black to white."""
    generator = torch.Generator().manual_seed(sum(size))
    fine, coarse = (torch.rand(batch, 3, *shape, generator=generator) for shape in (size, (size[0] // 8, size[1] // 8)))
    return (fine + 2 * nn.functional.interpolate(coarse, size, mode="bilinear")) / 3


def _points(size: tuple[int, int], batch: int) -> Float[Tensor, "b N 2"]:
    """Points between pixels all over the image, its corners among them."""
    generator = torch.Generator().manual_seed(batch)
    extent = torch.tensor([size[1] - 1.0, size[0] - 1.0])
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).expand(batch, -1, -1)
    return torch.cat([torch.rand(batch, 40, 2, generator=generator), corners], dim=1) * extent


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's warnings about its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
