"""The resumable state of a run as one file, written whole or not at all: a killed run leaves the last good one."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rfp.records import InputError

CHECKPOINT_NAME = "checkpoint.pt"
LAST_WEIGHTS_FILE = "last.safetensors"
"""In a run folder: the weights of the last checkpoint, beside those that are kept."""


@dataclass
class TrainingState:
    """Everything that the next step depends on, and what was best so far."""

    step: int
    network: dict[str, Tensor]
    average: dict[str, Tensor] | None
    """Of the weights over the last steps, where the run keeps one."""
    optimizer: dict[str, Any]
    generator: Tensor
    best: dict[str, Tensor]
    best_step: int
    best_score: float
    validations: list[dict[str, Any]]
    skipped_steps: int
    seconds: float
    run: dict[str, Any]
    """What must not change between the parts of a run: options but for the number of steps, data, reward."""
    start: dict[str, Tensor]
    """The weights that the run began with: drift is measured from them, and a trust region compares with them."""
    curriculum: dict[str, Any] | None = None
    """What is known of each pair, and the order of those to come."""
    rewards: dict[str, Tensor] | None = None
    """The averages of the pairs' rewards, where the run remembers them."""


def copy_of_weights(network: nn.Module) -> dict[str, Tensor]:
    """The network's state as it is now, on its device."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@contextmanager
def holding(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The network with other weights inside, for a while."""
    own = copy_of_weights(network)
    network.load_state_dict(weights)
    try:
        yield
    finally:
        network.load_state_dict(own)


def check_no_run(folder: Path) -> None:
    """Refuse a folder that holds a run already.

    Raises:
        InputError: it does.
    """
    if (folder / CHECKPOINT_NAME).exists():
        raise InputError(f"{folder}: a run is there already; go on with --resume {folder}, or choose another --output")


def prepare_run_folder(output: Path | str, *, resume: bool) -> Path:
    """The run folder, made if need be.

    Raises:
        InputError: it cannot be made, or holds a run that is not to be resumed.
    """
    folder = Path(output)
    if not resume:
        check_no_run(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be a run folder ({error.strerror or error}); choose another --output"
        ) from None
    return folder


def save_checkpoint(state: Any, folder: Path) -> Path:
    """The path of the checkpoint in a run folder, after it was written whole; the state is a dataclass."""
    path = folder / CHECKPOINT_NAME
    temporary = path.with_suffix(".tmp")
    torch.save(dataclasses.asdict(state), temporary)
    temporary.replace(path)
    return path


def load_checkpoint(
    folder: Path, *, run: dict[str, Any], defaults: dict[str, Any], network: nn.Module, kind: type[Any] = TrainingState
) -> Any:
    """The state to go on from, of the class ``kind``.

    Args:
        run: What the run must have begun with.
        defaults: What a run of an earlier version, which lacks an option, had in its place.

    Raises:
        InputError: no checkpoint there, an unreadable one, one of another network, or of other options or data.
    """
    path = folder / CHECKPOINT_NAME
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint to resume from; give the folder of a run that has saved one")
    try:
        state = kind(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises half a dozen classes for a damaged file
        raise InputError(f"{path}: not a readable checkpoint ({type(error).__name__}); start a new run") from error
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.network.items()}
    if expected != found:
        raise InputError(
            f"{path}: checkpoint of another network ({len(found)} tensors, expected {len(expected)} of the same names "
            "and shapes); resume with the network that the run began with"
        )
    difference = first_difference(state.run, run, defaults)
    if difference is not None:
        raise InputError(f"{path}: {difference}; resume with the same, or start anew")
    return state


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name and rename it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def first_difference(began: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any] | None = None) -> str | None:
    """What tells the options of a run from those that it began with, in words; None if nothing does."""
    before = flat_names(defaults or {}) | flat_names(began)
    for name, value in flat_names(now).items():
        if before.get(name) != value:
            return f"the run began with {name} {before.get(name)}, now it is {value}"
    return None


def flat_names(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by their dotted names, so that a message can name the one that differs."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flat_names(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
