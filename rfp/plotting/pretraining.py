"""Curves of a pretraining run: its losses, the share of right nearest neighbours, the accuracy on validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rfp.plotting.smoothing import running_mean

SERIES = "#1d5c94"
VALIDATION = ("#7fb7a4", "#0f9d82", "#0b5c4c")
LABELS = {
    "matching_loss": "matching loss",
    "heat_loss": "heat loss",
    "distillation_loss": "distillation loss",
    "nearest_is_right": "right neighbours",
}


def draw_pretraining(metrics: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """The run step by step, one panel for each metric that it has and, where there was any, AUC on validation below.

    Args:
        metrics: rows with "step" and some of the names of ``LABELS``, as in ``metrics.jsonl``.
        validations: rows with "step" and "auc", a dictionary by threshold in degrees.
    """
    names = [name for name in LABELS if metrics and name in metrics[0]]
    panels = len(names) + bool(validations)
    figure = Figure(figsize=(6.4, 0.5 + 1.5 * max(panels, 1)), layout="constrained")
    axes = figure.subplots(max(panels, 1), 1, sharex=True, squeeze=False)[:, 0]
    steps = np.array([row["step"] for row in metrics], dtype=float)
    for each, name in zip(axes, names):
        _draw_series(each, steps, np.array([row[name] for row in metrics], dtype=float))
        each.set_ylabel(LABELS[name])
    if validations:
        _draw_validation(axes[-1], validations)
    axes[-1].set_xlabel("step")
    figure.align_ylabels()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25, linewidth=0.5)
    return figure


def _draw_series(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """The values, pale, under their running mean."""
    axes.plot(steps, values, color=SERIES, linewidth=0.6, alpha=0.3)
    axes.plot(steps, running_mean(values), color=SERIES, linewidth=1.6)


def _draw_validation(axes: Axes, validations: Sequence[Mapping[str, Any]]) -> None:
    """AUC at each threshold, with the start's as a dotted line."""
    steps = [row["step"] for row in validations]
    beside = axes.get_yaxis_transform()  # x in axes' widths, y in data
    for colour, threshold in zip(VALIDATION, validations[0]["auc"]):
        values = [row["auc"][threshold] for row in validations]
        axes.plot(steps, values, "o-", color=colour, markersize=3, linewidth=1.2)
        axes.axhline(values[0], color=colour, linewidth=0.7, linestyle=":")  # the start, which training has to beat
        axes.text(1.01, values[-1], f"AUC@{threshold}", color=colour, fontsize=8, va="center", transform=beside)
    axes.set_ylabel("validation AUC (%)")
    axes.margins(y=0.15)
