"""What a run folder has logged, while the run goes on or after it; folders of older versions, too."""

import json
from pathlib import Path
from typing import Any

from rfp.plotting.runs import LoggedRun
from rfp.records import InputError
from rfp.training.metrics_log import METRICS_NAME, VALIDATIONS_NAME, read_metrics


def read_run(folder: Path, *, name: str | None = None) -> LoggedRun:
    """The metrics and validations of a run folder.

    Raises:
        InputError: no such folder, one that holds no run, or one in which no step has been logged yet.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the run folder of rfp train")
    path = folder / METRICS_NAME
    if not path.is_file():
        raise InputError(f"{folder}: not a run folder, it has no {METRICS_NAME}; give one that rfp train wrote")
    rows = read_metrics(path)
    if not rows:
        raise InputError(f"{path}: no step is logged yet; the first ones come after --log-every steps, try again then")
    return LoggedRun(name or folder.resolve().name, rows, _validations(folder))


def _validations(folder: Path) -> list[dict[str, Any]]:
    """A line each; of a run that was made before there were such lines, those of its summary."""
    path = folder / VALIDATIONS_NAME
    if path.is_file():
        return read_metrics(path)
    try:
        found = json.loads((folder / "summary.json").read_text())["validations"]
        return [
            {"step": row["step"], **{f"auc_{threshold}": value for threshold, value in row["auc"].items()}}
            for row in found
        ]
    except (OSError, KeyError, TypeError, json.JSONDecodeError):
        return []
