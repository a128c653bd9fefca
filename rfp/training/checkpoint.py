"""The resumable state of a run as one file, written whole or not at all: a killed run leaves the last good one."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rfp.records import InputError

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass
class TrainingState:
    """Everything that the next step depends on, and what was best so far."""

    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    generator: Tensor
    best: dict[str, Tensor]
    best_step: int
    best_score: float
    validations: list[dict[str, Any]]
    skipped_steps: int
    seconds: float
    run: dict[str, Any]
    """What must not change between the parts of a run: options (but for the number of steps) and the data."""


def save_checkpoint(state: TrainingState, folder: Path) -> Path:
    """The path of the checkpoint in a run folder, after it was written whole."""
    path = folder / CHECKPOINT_NAME
    temporary = path.with_suffix(".tmp")
    torch.save(dataclasses.asdict(state), temporary)
    temporary.replace(path)
    return path


def load_checkpoint(folder: Path, *, run: dict[str, Any], network: nn.Module) -> TrainingState:
    """The state to go on from.

    Raises:
        InputError: no checkpoint there, an unreadable one, one of another network, or of other options or data.
    """
    path = folder / CHECKPOINT_NAME
    if not path.is_file():
        raise InputError(f"{path}: no checkpoint to resume from; give the folder of a run that has saved one")
    try:
        state = TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises half a dozen classes for a damaged file
        raise InputError(f"{path}: not a readable checkpoint ({type(error).__name__}); start a new run") from error
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.network.items()}
    if expected != found:
        raise InputError(
            f"{path}: checkpoint of another network ({len(found)} tensors, expected {len(expected)} of the same names "
            "and shapes); resume with the network that the run began with"
        )
    for name, value in run.items():
        if state.run.get(name) != value:
            raise InputError(
                f"{path}: the run began with other {name} ({_brief(state.run.get(name))}, now {_brief(value)}); "
                "resume with the same, or start a new run"
            )
    return state


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name and rename it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
