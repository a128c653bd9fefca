"""ONNX files of a network for images of any size, checked in onnxruntime against the network itself."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfp.export.complete_files import complete_files
from rfp.export.programs import (
    MEANING,
    ExportedFiles,
    NetworkProgram,
    check_differences,
    largest_differences,
    metadata,
    part_path,
    trace_network,
)
from rfp.optional import require
from rfp.records import InputError
from rfp.rollout import FeatureNetwork

_AXES = {
    "images": ("batch", "", "height", "width"),
    "log_heat": ("batch", "height", "width"),
    "feature_map": ("batch", "", "rows", "columns"),
    "xy_px": ("batch", "points", ""),
}


def write_onnx(
    network: FeatureNetwork, path: str | os.PathLike[str], programs: Sequence[NetworkProgram] | None = None
) -> ExportedFiles:
    """Writes the network's parts as ONNX files, and says how far onnxruntime's results are from the network's.

    ``tiny.onnx`` takes images and gives the dense maps, ``tiny.describe.onnx`` takes those and points and gives
    descriptors, and ``tiny.refine.onnx``, where the network has a sub-pixel step, gives moved points. Batch, image size
    and the number of points are dynamic. Each file says what it is and what its inputs mean in its metadata. The files
    pass ``onnx.checker``, and onnxruntime is compared with torch at two sizes before they get their names.

    Args:
        programs: What `trace_network` gave for this network, where it is at hand; tracing takes seconds.

    Raises:
        InputError: a network that cannot be traced or translated, a package that is missing, or a name that does not
            end in ``.onnx``.
        RuntimeError: the files do not compute what the network computes; nothing is written.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: expected a name that ends in .onnx")
    onnx, runtime = require("onnx", extra="export"), require("onnxruntime", extra="export")
    programs = trace_network(network) if programs is None else programs
    models = [_translate(program, metadata(network, program)) for program in programs]
    paths = tuple(part_path(path, program.part) for program in programs)
    with complete_files(paths) as temporary:
        sessions = {}
        for program, model, place in zip(programs, models, temporary, strict=True):
            onnx.checker.check_model(model, full_check=True)
            onnx.save(model, str(place), format="protobuf")
            sessions[program.part] = runtime.InferenceSession(str(place), providers=["CPUExecutionProvider"])

        def run(part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
            session = sessions[part]
            inputs = {each.name: values[each.name].numpy() for each in session.get_inputs()}
            found = session.run(None, inputs)
            return {each.name: torch.from_numpy(value) for each, value in zip(session.get_outputs(), found)}

        differences = largest_differences(network, run)
        check_differences(differences, path)
    return ExportedFiles(paths, differences)


def _translate(program: NetworkProgram, about: dict[str, str]) -> Any:
    """The traced part as an ``onnx.ModelProto`` that says what it is."""
    require("onnxscript", extra="export")
    try:
        with _quiet_exporter():
            translated = torch.onnx.export(
                program.program,
                input_names=list(program.inputs),
                output_names=list(program.outputs),
                custom_translation_table={torch.ops.aten.log_sigmoid.default: _log_sigmoid()},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever operation has no counterpart
        raise InputError(
            f"{about['network']}: torch.onnx has no translation of {program.part} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); export it as .pt2 instead"
        ) from error
    assert translated is not None  # None is for the exporter of old
    model = translated.model_proto
    _name_axes(model)
    model.producer_name, model.producer_version = "rfp", about["rfp_version"]
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = MEANING[value.name]
    # The exporter notes at each node what it was made from, which is longer than the network.
    for graph in (model.graph, *model.functions):
        for node in graph.node:
            del node.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    for key, text in about.items():
        model.metadata_props.add(key=key, value=text)
    return model


def _log_sigmoid() -> Any:
    """-softplus(-x): the exporter's own log(sigmoid(x)) is -inf below -104, where confident networks' logits go."""
    opset = require("onnxscript", extra="export").opset18

    def log_sigmoid(self):
        return opset.Neg(opset.Softplus(opset.Neg(self)))

    return log_sigmoid


def _name_axes(model: Any) -> None:
    """Calls the dynamic axes by what they are, in inputs and outputs, instead of s14 and s54."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for axis, dimension in zip(_AXES[value.name], value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                names.setdefault(dimension.dim_param, axis)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), dimension.dim_param)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's notes about torchvision, which nothing here needs, and about its own internals."""
    import warnings

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
