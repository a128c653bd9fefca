"""Plain state dicts under the names of each network's own project, as ``torch.save`` writes them."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rfp.export.complete_files import complete_files
from rfp.models.state_layouts import layout_of, published_state
from rfp.records import InputError


@dataclass(frozen=True)
class StateDictFile:
    """What was written."""

    path: Path
    num_tensors: int
    source: str
    """The project whose names the tensors have."""
    licence: str
    """Of that project's published weights, which holds for what was trained from them."""
    entry: str | None
    """The key under which the file holds the state dict, if any."""


def write_state_dict(network: nn.Module, path: str | os.PathLike[str]) -> StateDictFile:
    """Writes one of rfp's networks as its own project would, and says what was written.

    ALIKED's and DISK's files load into kornia's ``ALIKED`` and ``DISK`` and into the original programs; SuperPoint's
    into Magic Leap's or rpautrat's network, whichever it is. `rfp.load_network` reads each of them again. The file
    appears under its name only when it is complete.

    Raises:
        InputError: a network of the user's own, or a name that does not end in ``.pth`` or ``.pt``.

    Example:
        >>> import tempfile, rfp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_state_dict(rfp.load_pretrained("tiny"), folder + "/tiny.pth").num_tensors
        52
    """
    path = Path(path)
    if path.suffix not in (".pth", ".pt"):
        raise InputError(f"{path}: expected a name that ends in .pth or .pt, as torch.save's files do")
    layout, content = layout_of(network), published_state(network)
    state: dict[str, Tensor] = content if layout.entry is None else content[layout.entry]
    with complete_files([path]) as (temporary,):
        torch.save(content, temporary)
    return StateDictFile(path, len(state), layout.source, layout.licence, layout.entry)
