"""Metrics as JSON lines: one object a line, appended as they come, readable while the run goes on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

METRICS_NAME, VALIDATIONS_NAME = "metrics.jsonl", "validations.jsonl"
"""In a run folder: a line for each step, and one for each validation."""


class MetricsLog:
    """Rows of metrics, kept in memory and, where a path is given, appended to a file."""

    def __init__(self, path: Path | None = None, *, keep_up_to_step: int | None = None):
        """Start empty, or go on with the rows of the file up to a step (what a resumed run really did)."""
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path is None:
            return
        if keep_up_to_step is not None and path.is_file():
            self.rows = [row for row in read_metrics(path) if row["step"] <= keep_up_to_step]
        temporary = path.with_suffix(".jsonl.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        temporary.replace(path)

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; its ``step`` is required."""
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def rows_on_host(pending: Sequence[tuple[int, dict[str, Any], dict[str, Tensor]]]) -> list[dict[str, Any]]:
    """The rows of (step, what the host knows, what lies on the device): all brought over at once."""
    if not pending:
        return []
    names = list(pending[0][-1])
    columns = torch.stack([torch.stack([row[name].detach() for name in names]) for *_, row in pending])
    return [
        {"step": step, **dict(zip(names, values, strict=True)), **known}
        for (step, known, _), values in zip(pending, columns.tolist(), strict=True)
    ]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line cut off by a killed run is left out, as is one that is no row."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows
