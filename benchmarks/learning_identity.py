"""What tells the runs of one experiment from those of another: the start's weights, the photographs, the pairs."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rfp.data.photographs import IMAGE_SUFFIXES


def weights_digest(network: nn.Module) -> str:
    """Of the names and values of all of a network's tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def photographs_digest(folder: Path) -> str:
    """The number of photographs in a folder, and a digest of their names and contents."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{len(files)} photographs, {digest.hexdigest()[:16]}"


def short_digest(settings: Mapping[str, Any]) -> str:
    """Of settings, for the names of run folders."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def check_same(found: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    """Refuse to add runs to a file whose runs are of another experiment.

    Raises:
        SystemExit: they are, or the file does not say of which.
    """
    before = found.get("settings")
    if before is None:
        raise SystemExit(f"--json {path}: does not say of which start and pairs its runs are; give another file")
    now = json.loads(json.dumps(settings))
    for name in sorted(before | now):
        if before.get(name) != now.get(name):
            difference = f"its runs have {name} {before.get(name)!r}, these {now.get(name)!r}"
            raise SystemExit(f"--json {path}: {difference}; give another file")
