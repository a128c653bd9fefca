"""Each network's weights under the names of the project that it comes from: written there, read here and back again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rfp.models.aliked import ALIKED_NAMES, Aliked
from rfp.models.disk import Disk
from rfp.models.superpoint import SuperPoint
from rfp.models.tiny import Tiny
from rfp.records import InputError


@dataclass(frozen=True)
class StateLayout:
    """A network that rfp can build, and what its own project's files of weights look like."""

    build: Callable[[], Any]
    """The network with random weights."""
    source: str
    """Whose names the file uses."""
    licence: str
    """Of the published weights; what is trained from them stays under it."""
    published_name: Callable[[str], str] = lambda key: key
    """The file's name for a tensor of rfp's network."""
    entry: str | None = None
    """The key under which the file holds the state dict, if any."""
    constants: frozenset[str] = frozenset()
    """Buffers by the file's names that the published files lack; neither asked for nor written."""


# Name in rfp: (Magic Leap's, rpautrat's)
_SUPERPOINT_LAYERS = {
    "encoder.0": ("conv1a", "backbone.0.0"),
    "encoder.1": ("conv1b", "backbone.0.1"),
    "encoder.2": ("conv2a", "backbone.1.0"),
    "encoder.3": ("conv2b", "backbone.1.1"),
    "encoder.4": ("conv3a", "backbone.2.0"),
    "encoder.5": ("conv3b", "backbone.2.1"),
    "encoder.6": ("conv4a", "backbone.3.0"),
    "encoder.7": ("conv4b", "backbone.3.1"),
    "detector.0": ("convPa", "detector.0"),
    "detector.1": ("convPb", "detector.1"),
    "descriptor.0": ("convDa", "descriptor.0"),
    "descriptor.1": ("convDb", "descriptor.1"),
}


def _magic_leap_name(key: str) -> str:
    layer, _, tensor = key.rsplit(".", 2)
    return f"{_SUPERPOINT_LAYERS[layer][0]}.{tensor}"


def _rpautrat_name(key: str) -> str:
    layer, module, tensor = key.rsplit(".", 2)
    return f"{_SUPERPOINT_LAYERS[layer][1]}.{'bn' if module == 'norm' else 'conv'}.{tensor}"


def _without_prefix(key: str) -> str:
    return key.removeprefix("network.")


def _aliked(name: str) -> StateLayout:
    return StateLayout(
        build=lambda: Aliked(name),
        source="ALIKED",
        licence="BSD-3-Clause",
        published_name=_without_prefix,
        constants=frozenset({"dkd.hw_grid"}),  # kornia keeps it among the buffers
    )


LAYOUTS: dict[str, StateLayout] = {
    "tiny": StateLayout(build=Tiny, source="rfp", licence="Apache-2.0"),
    **{name: _aliked(name) for name in ALIKED_NAMES},
    "disk": StateLayout(
        build=Disk, source="DISK", licence="Apache-2.0", published_name=_without_prefix, entry="extractor"
    ),
    "superpoint": StateLayout(
        build=SuperPoint,
        source="Magic Leap's SuperPoint",
        licence="Magic Leap's: non-commercial research only, not to be distributed, derivatives included",
        published_name=_magic_leap_name,
    ),
    "superpoint-open": StateLayout(
        build=lambda: SuperPoint(batch_norm=True),
        source="rpautrat/SuperPoint",
        licence="MIT",
        published_name=_rpautrat_name,
    ),
}

# Where training programs put a state dict among other things.
_ENTRIES = ("extractor", "disk", "state_dict", "model")
_UNREAD = "num_batches_tracked"  # a batch norm's count, which nothing reads outside training and old files lack


def layout_of(network: nn.Module) -> StateLayout:
    """The layout of one of rfp's networks.

    Raises:
        InputError: a network of the user's own, whose names are its own affair.
    """
    layout = LAYOUTS.get(getattr(network, "name", type(network).__name__))
    if layout is None:
        raise InputError(
            f"expected one of rfp's networks ({', '.join(LAYOUTS)}), got {type(network).__name__}, which has no other "
            "project's names; save its own with rfp.save_weights or torch.save(network.state_dict(), path)"
        )
    return layout


def published_state(network: nn.Module) -> dict[str, Any]:
    """What the network's own project would save: its names, on the CPU, under the entry that its files have.

    Example:
        >>> sorted(published_state(SuperPoint()))[:2]
        ['conv1a.bias', 'conv1a.weight']
    """
    layout = layout_of(network)
    state = {layout.published_name(key): value for key, value in network.state_dict().items()}
    kept = {key: value.detach().cpu().clone() for key, value in state.items() if key not in layout.constants}
    return kept if layout.entry is None else {layout.entry: kept}


def load_published(network: nn.Module, content: Mapping[str, Any], *, source: str) -> None:
    """Fills one of rfp's networks with the weights of its own project.

    Args:
        content: What ``torch.load`` gave, the state dict or a dictionary that holds it.
        source: What an error calls the file.

    Raises:
        InputError: a tensor is missing, too many, or of another shape.
    """
    layout, state = layout_of(network), _state_dict(content)
    names = {layout.published_name(key): key for key in network.state_dict()}
    shapes = {name: network.state_dict()[key].shape for name, key in names.items()}
    fault = _difference(shapes, state, layout.constants)
    if fault:
        raise InputError(f"{source}: expected weights of {getattr(network, 'name', '')} ({layout.source}), but {fault}")
    network.load_state_dict({names[name]: value for name, value in state.items()}, strict=False)


def recognise(content: Mapping[str, Any], hint: str = "") -> str | None:
    """The name of the network whose layout these weights have, or None.

    ALIKED's n16 and n16rot differ in their weights only: ``hint``, the file's name without its suffix, decides.
    """
    state = _state_dict(content)
    fitting = [name for name, layout in LAYOUTS.items() if not _difference(_shapes(layout), state, layout.constants)]
    return hint if hint in fitting else next(iter(fitting), None)


def describe_nearest(content: Mapping[str, Any]) -> str | None:
    """The network with most names in common and what differs, in words; None where fewer than half are known."""
    state = _state_dict(content)
    common = {name: len(state.keys() & _shapes(layout).keys()) for name, layout in LAYOUTS.items()}
    name = max(common, key=lambda name: common[name])
    if 2 * common[name] < len(_shapes(LAYOUTS[name])):
        return None
    layout = LAYOUTS[name]
    return f"it resembles {name} ({layout.source}), but {_difference(_shapes(layout), state, layout.constants)}"


def _state_dict(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the first usual entry that holds one."""
    for entry in _ENTRIES:
        if isinstance(content.get(entry), Mapping):
            content = content[entry]
            break
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _shapes(layout: StateLayout) -> dict[str, torch.Size]:
    """The shapes that a file of this layout must have, by its names."""
    with torch.device("meta"):
        state = layout.build().state_dict()
    return {layout.published_name(key): value.shape for key, value in state.items()}


def _difference(expected: Mapping[str, torch.Size], state: Mapping[str, Tensor], constants: frozenset[str]) -> str:
    """What is wrong with the tensors of a file, in words; empty if nothing is."""
    missing = {name for name in expected.keys() - state.keys() - constants if not name.endswith(_UNREAD)}
    if missing:
        return f"it misses {_some(missing)}"
    besides = state.keys() - expected.keys()
    if besides:
        return f"it holds {_some(besides)} besides"
    for name, shape in expected.items():
        if name in state and state[name].shape != shape:
            return f"{name} has shape {tuple(state[name].shape)} instead of {tuple(shape)}"
    return ""


def _some(names) -> str:
    """At most three names, for a message of one line."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
